// The weight gradient in double precision, from the branches as they were given: what tests and trials
// compare against. Written for clarity and independent of every algorithm and of the merge.
#pragma once
#include <span>
#include <vector>

#include "depthwise/problem/problem.hpp"

namespace replk::depthwise {

/// Of some channels, before rounding.
struct WeightReference {
  std::vector<int> channels;
  std::vector<std::vector<double>> dweights;  // a branch: [channels][kernel_h][kernel_w]
  std::vector<double> dbias;                  // [channels]
  /// What errors are compared with: the largest magnitude of a channel's gradient over all branches (of fewer
  /// than eight taps that meet the map, which may all be small by chance, 1/16 |dy| |src| where that is
  /// larger); for dbias the norm of its dy, or itself.
  std::vector<double> largest, bias_norm;
};
/// Of the problem's own batch.
WeightReference weight_reference(const Problem& problem, const void* src, const void* dy,
                                 std::vector<int> channels);

/// The largest error over the channel's largest gradient; infinite where one side is finite and the other is
/// not, unless both are NaN. dweights: a branch, all channels; a null one is passed over, and so is a null
/// dbias.
double weight_error(const Problem& problem, const WeightReference& expected, std::span<float* const> dweights,
                    const float* dbias);

}  // namespace replk::depthwise
