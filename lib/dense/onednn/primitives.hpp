// Dense layers by oneDNN primitives: what the rest of the box sees of oneDNN. Inside the box only.
#pragma once
#include <memory>
#include <string>
#include <vector>

#include "dense/dense.hpp"
#include "dense/engine.hpp"
#include "dense/weights.hpp"

namespace replk::dense {

/// Every primitive and implementation that can compute the layer, as choice texts, the analytic pick first.
/// Empty where oneDNN cannot be opened.
std::vector<std::string> onednn_choices(const Linear& linear, int threads);
/// Null where the text names nothing that can compute the layer.
std::unique_ptr<Engine> onednn_linear(const Linear& linear, PackedWeights& weights, const std::string& choice,
                                      int threads);

std::vector<std::string> onednn_choices(const Convolution& convolution, int threads);
std::unique_ptr<Engine> onednn_convolution(const Convolution& convolution, PackedWeights& weights,
                                           const std::string& choice, int threads);

}  // namespace replk::dense
