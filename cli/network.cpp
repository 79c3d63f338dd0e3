#include "cli/network.hpp"

#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <utility>

#include "cli/shipped.hpp"
#include "core/error.hpp"
#include "model/precision.hpp"

namespace replk::cli {

void add_model_option(CLI::App& command, std::string& model) {
  command
      .add_option("--model", model,
                  "The network, such as replknet-31b, convnextv2-t or replknet-31b:k=3,3,3,3")
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

void add_precision_option(CLI::App& command, std::optional<Precision>& precision) {
  command
      .add_option_function<std::string>(
          "--precision",
          [&precision](const std::string& text) {
            precision = model::parse_precision(text);
            if (!precision)
              core::fail(core::Status::invalid_argument,
                         "--precision: '{}'; allowed are fp32, bf16, bf16x3 and int8", text);
          },
          "What pointwise and dense layers multiply in: fp32, bf16, bf16x3 (needs AMX) or int8 (default: as "
          "the weights are)")
      ->type_name("P");
}

std::string Weights::note() const {
  return random ? fmt::format("random, from {} (no --weights given)", source->describe())
                : source->describe();
}

Weights open_weights(const NetworkOptions& options, const model::Architecture& architecture) {
  std::string file = options.weights;
  if (file.empty() && !options.seed) file = shipped_weights(architecture);
  if (file.empty()) return {model::seeded_weights(architecture, options.seed.value_or(1)), true};
  return {model::open_safetensors(file), false};
}

std::string LoadedNetwork::weights_note() const {
  if (network.precision() == Precision::fp32) return weights.note();
  return fmt::format("{}, in {}", weights.note(), name(network.precision()));
}

LoadedNetwork load_network(const NetworkOptions& options) {
  const model::Architecture architecture = model::find_architecture(options.model);
  Weights weights = open_weights(options, architecture);
  StatusLine line;
  model::NetworkOptions network_options;
  network_options.threads = options.threads;
  network_options.precision = options.precision;
  network_options.norm_intermediate_features = options.norm_intermediate_features;
  network_options.progress = [&](double fraction) {
    line.show(fmt::format("loading {}: {:.0f} %", architecture.name, 100 * fraction));
    return true;
  };
  model::Network network(architecture, *weights.source, network_options);
  return {std::move(weights), std::move(network)};
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
