// Linear layers with narrow operands: every engine that computes them, as choices of one question. Inside the
// box only.
#pragma once
#include <memory>
#include <string>
#include <vector>

#include "core/features.hpp"
#include "dense/dense.hpp"
#include "dense/engine.hpp"

namespace replk::dense {

/// Every choice worth trying with these features, the analytic pick first. Throws unsupported, naming the
/// precision and the feature that is wanted, where there is none.
std::vector<std::string> narrow_choices(const Linear& linear, int threads, Features features);
/// Null where the text names nothing that can compute the layer with these features. copy: of a u8 copy.
std::unique_ptr<Engine> narrow_linear(const Linear& linear, NarrowWeights& weights, const Quantiser& copy,
                                      const std::string& choice, int threads, Features features);

}  // namespace replk::dense
