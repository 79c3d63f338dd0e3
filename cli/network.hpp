// The options that say which network runs, and the network they make.
#pragma once
#include <cstdint>
#include <memory>
#include <optional>
#include <string>

#include "cli/common.hpp"
#include "core/types.hpp"
#include "image/image.hpp"
#include "model/network.hpp"
#include "model/weight_source.hpp"

namespace replk::cli {

struct NetworkOptions {
  std::string model, weights;  // weights: a .safetensors file; empty for those that ship, or random ones
  std::optional<std::uint64_t> seed;   // of random ones; given, they are wanted
  std::optional<Precision> precision;  // nothing: the weights' own
  int threads = 0;
  bool norm_intermediate_features = false;
};

/// --model NAME (required).
void add_model_option(CLI::App& command, std::string& model);
/// --weights FILE, --seed N, --threads N.
void add_weights_options(CLI::App& command, NetworkOptions& options);

/// --precision fp32|bf16|bf16x3|int8.
void add_precision_option(CLI::App& command, std::optional<Precision>& precision);

/// The file, those that ship, or random ones.
struct Weights {
  std::unique_ptr<model::WeightSource> source;
  bool random = false;  // generated from the seed

  /// Where they come from, for a reader: says plainly where they are random.
  std::string note() const;
};
Weights open_weights(const NetworkOptions& options, const model::Architecture& architecture);

struct LoadedNetwork {
  Weights weights;
  model::Network network;

  /// Weights::note(), and the precision.
  std::string weights_note() const;
};

/// Throws where the name is unknown or the file is not one of this model.
LoadedNetwork load_network(const NetworkOptions& options);

/// The size asked for, or the model's own. Throws invalid_argument where it is smaller than the model takes.
Size input_size(const std::optional<Size>& size, const model::Architecture& architecture);

/// Bytes of a linear congruential generator as a picture: the same on every machine.
image::Image random_picture(Size size, std::uint64_t seed);

}  // namespace replk::cli
