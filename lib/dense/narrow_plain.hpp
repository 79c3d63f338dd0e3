// Linear layers with narrow operands in plain C++: what the generated products are compared with, and where
// no code can be generated. Inside the box only.
#pragma once
#include <memory>

#include "dense/dense.hpp"
#include "dense/engine.hpp"
#include "dense/narrow_weights.hpp"

namespace replk::dense {

/// precision: bf16 or int8. copy: of a u8 copy, else unused.
std::unique_ptr<Engine> narrow_plain(const Linear& linear, NarrowWeights& weights, const Quantiser& copy,
                                     int threads);

}  // namespace replk::dense
