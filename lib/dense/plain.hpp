// Dense layers in plain C++, for where oneDNN cannot generate code. Inside the box only.
#pragma once
#include <memory>

#include "dense/dense.hpp"
#include "dense/engine.hpp"

namespace replk::dense {

/// A linear layer (without its residual) as a convolution of maps of one pixel.
Convolution as_convolution(const Linear& linear);

std::unique_ptr<Engine> plain_linear(const Linear& linear, PackedWeights& weights, int threads);
std::unique_ptr<Engine> plain_convolution(const Convolution& convolution, PackedWeights& weights,
                                          int threads);

}  // namespace replk::dense
