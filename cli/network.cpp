#include "cli/network.hpp"

#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <utility>

#include "image/preprocess.hpp"
#include "image/resize.hpp"

namespace replk::cli {

void add_model_option(CLI::App& command, std::string& model) {
  command.add_option("--model", model, "The network, such as replknet-31b or replknet-31b:k=3,3,3,3")
      ->type_name("NAME")
      ->required();
}

void add_weights_options(CLI::App& command, NetworkOptions& options) {
  CLI::Option* weights =
      command.add_option("--weights", options.weights, "Weights (default: random ones from the seed)")
          ->type_name("FILE.safetensors");
  command.add_option("--seed", options.seed, "Seed of the random weights")->type_name("N")->excludes(weights);
  add_threads_option(command, options.threads);
}

std::string LoadedNetwork::weights_note() const {
  return random ? fmt::format("random, from {} (no --weights given)", weights->describe())
                : weights->describe();
}

LoadedNetwork load_network(const NetworkOptions& options) {
  const model::Architecture architecture = model::find_architecture(options.model);
  const bool random = options.weights.empty();
  auto weights =
      random ? model::seeded_weights(architecture, options.seed) : model::open_safetensors(options.weights);
  StatusLine line;
  model::NetworkOptions network_options;
  network_options.threads = options.threads;
  network_options.norm_intermediate_features = options.norm_intermediate_features;
  network_options.progress = [&](double fraction) {
    line.show(fmt::format("loading {}: {:.0f} %", architecture.name, 100 * fraction));
    return true;
  };
  model::Network network(architecture, *weights, network_options);
  return {std::move(weights), std::move(network), random};
}

Size input_size(const std::optional<Size>& size, const model::Architecture& architecture) {
  return size.value_or(Size{architecture.preprocessing.size, architecture.preprocessing.size});
}

void prepare_classification(const image::Image& picture, const model::Preprocessing& preprocessing, Size size,
                            float* destination) {
  if (size.height != size.width || preprocessing.warps(size.height)) {
    prepare_warped(picture, preprocessing, size, destination);
    return;
  }
  const int short_side = preprocessing.resized_short_side(size.height);
  image::normalise(image::resize_and_crop(picture, short_side, size.height, size.width),
                   {preprocessing.mean, preprocessing.std}, destination);
}

void prepare_warped(const image::Image& picture, const model::Preprocessing& preprocessing, Size size,
                    float* destination) {
  image::normalise(image::resize_bicubic(picture, size.height, size.width),
                   {preprocessing.mean, preprocessing.std}, destination);
}

}  // namespace replk::cli
