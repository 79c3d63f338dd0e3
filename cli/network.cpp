#include "cli/network.hpp"

#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <utility>

#include "cli/shipped.hpp"
#include "core/error.hpp"

namespace replk::cli {

void add_model_option(CLI::App& command, std::string& model) {
  command.add_option("--model", model, "The network, such as replknet-31b or replknet-31b:k=3,3,3,3")
      ->type_name("NAME")
      ->required();
}

void add_weights_options(CLI::App& command, NetworkOptions& options) {
  CLI::Option* weights =
      command
          .add_option("--weights", options.weights, "Weights (default: those that ship; else random ones)")
          ->type_name("FILE.safetensors");
  command.add_option("--seed", options.seed, "Random weights, from this seed")
      ->type_name("N")
      ->excludes(weights);
  add_threads_option(command, options.threads);
}

std::string LoadedNetwork::weights_note() const {
  return random ? fmt::format("random, from {} (no --weights given)", weights->describe())
                : weights->describe();
}

LoadedNetwork load_network(const NetworkOptions& options) {
  const model::Architecture architecture = model::find_architecture(options.model);
  std::string file = options.weights;
  if (file.empty() && !options.seed) file = shipped_weights(architecture);
  const bool random = file.empty();
  auto weights =
      random ? model::seeded_weights(architecture, options.seed.value_or(1)) : model::open_safetensors(file);
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
  const Size chosen = size.value_or(Size{architecture.preprocessing.size, architecture.preprocessing.size});
  if (std::min(chosen.height, chosen.width) < architecture.smallest_side) {
    core::fail(core::Status::invalid_argument, "--size: '{}': sides of {} are {}..16384", chosen.to_string(),
               architecture.name, architecture.smallest_side);
  }
  return chosen;
}

image::Image random_picture(Size size, std::uint64_t seed) {
  image::Image picture(size.height, size.width);
  std::uint32_t state = static_cast<std::uint32_t>(seed);
  for (std::uint8_t& value : picture.pixels) {
    state = state * 1664525u + 1013904223u;
    value = static_cast<std::uint8_t>(state >> 24);
  }
  return picture;
}

}  // namespace replk::cli
