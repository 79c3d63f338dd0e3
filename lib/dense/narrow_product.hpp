// Linear layers with narrow operands by generated vector code (jit/kernels/narrow_product.hpp). Inside the
// box only.
#pragma once
#include <memory>
#include <string>
#include <vector>

#include "core/features.hpp"
#include "dense/dense.hpp"
#include "dense/engine.hpp"
#include "dense/narrow_weights.hpp"

namespace replk::dense {

/// `product dot=avx512_vnni rows=784`: by which instruction, rows in blocks of at most so many. The analytic
/// pick first; empty where no code can be generated.
std::vector<std::string> product_choices(const Linear& linear, Features features);
/// Null where the text is not such a choice or needs other features. copy: of a u8 copy.
std::unique_ptr<Engine> product_linear(const Linear& linear, NarrowWeights& weights, const Quantiser& copy,
                                       const std::string& choice, int threads, Features features);

}  // namespace replk::dense
