// Linear layers with narrow operands by AMX tiles (jit/kernels/tile_product.hpp). Inside the box only.
#pragma once
#include <memory>
#include <string>
#include <vector>

#include "core/features.hpp"
#include "dense/dense.hpp"
#include "dense/engine.hpp"
#include "dense/narrow_weights.hpp"

namespace replk::dense {

/// Whether products in this precision go through tiles where code may be generated.
bool amx_suffices(Precision precision, Features features);
/// `amx depth=512 rows=224`: the reduction in parts of at most so many inputs, rows in groups of about so
/// many. The analytic pick first; empty where the features do not suffice.
std::vector<std::string> amx_choices(const Linear& linear, Features features);
/// Null where the text is not such a choice, or the features do not suffice. copy: of a u8 copy.
std::unique_ptr<Engine> amx_linear(const Linear& linear, NarrowWeights& weights, const Quantiser& copy,
                                   const std::string& choice, int threads, Features features);

}  // namespace replk::dense
