// The weight gradient by its definition, in plain C++: its bits are those of class exact.
#pragma once
#include "depthwise/gradient/weight_algorithm.hpp"
#include "depthwise/gradient/weight_constants.hpp"

namespace replk::depthwise {

const WeightAlgorithm& portable_weight_algorithm();

/// The gradients of branch `branch` of channels first .. first + count - 1 (at most portable_weight_lanes),
/// row `row`, as portable computes them: [kernel_w][portable_weight_lanes] sums, in double. rows: scratch of
/// portable_weight_bytes(). For what an algorithm of class fast cannot do, too.
constexpr int portable_weight_lanes = weight_constants.lanes;
std::size_t portable_weight_bytes(const Problem& problem);
void portable_weight_row(const Problem& problem, const WeightGradientTensors& tensors, std::int64_t batch,
                         int branch, int row, int first, int count, void* rows, double* sums);
/// The same of the bias: [portable_weight_lanes] sums.
void portable_weight_bias(const Problem& problem, const WeightGradientTensors& tensors, std::int64_t batch,
                          int first, int count, void* rows, double* sums);

}  // namespace replk::depthwise
