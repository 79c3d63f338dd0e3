// Dense layers by oneDNN primitives: inside the box, and measure/onednn for the engine.
#pragma once
#include <memory>
#include <string>
#include <vector>

#include "dense/dense.hpp"
#include "dense/engine.hpp"
#include "dense/onednn/loaded.hpp"

namespace replk::dense {

/// The process's one oneDNN engine, held to what REPLK_MAX_ISA leaves of the CPU. Throws unsupported where
/// oneDNN cannot be opened.
const dnnl::engine& onednn_engine();

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
