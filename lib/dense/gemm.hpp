// Linear layers by the generated matrix product (jit/kernels/gemm.hpp). Inside the box only.
#pragma once
#include <memory>
#include <string>
#include <vector>

#include "dense/dense.hpp"
#include "dense/engine.hpp"

namespace replk::dense {

/// `gemm depth=512 rows=96`: the reduction in parts of at most so many inputs, rows in blocks of at most so
/// many. The analytic pick first; empty where no code can be generated.
std::vector<std::string> gemm_choices(const Linear& linear);
/// Null where the text is not such a choice or out of range.
std::unique_ptr<Engine> gemm_linear(const Linear& linear, PackedWeights& weights, const std::string& choice,
                                    int threads);

}  // namespace replk::dense
