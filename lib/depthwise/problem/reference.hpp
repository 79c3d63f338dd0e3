// The convolution in double precision, from the branches as they were given: what tests and benches compare
// against. Written for clarity and independent of every algorithm and of the merge.
#pragma once
#include <cstdint>
#include <span>
#include <vector>

#include "depthwise/algorithm.hpp"
#include "depthwise/problem/problem.hpp"

namespace replk::depthwise {

struct Sample {
  std::int64_t image = 0;
  int channel = 0, row = 0, column = 0;  // of the output
};

/// Every output, in the order image, channel, row, column.
std::vector<Sample> all_outputs(const Problem& problem);
/// All outputs where the problem is small; otherwise at least `count` of them: whole groups of one channel of
/// one image (the first, the last and seeded ones between), each with the four corners, places on every
/// border and places inside.
std::vector<Sample> sampled_outputs(const Problem& problem, std::int64_t count, std::uint64_t seed);

/// The results at the samples, epilogue included, before rounding to the problem's type. weights, bias and
/// scale as for Weights; the tensors' dst is not used.
std::vector<double> reference(const Problem& problem, std::span<const std::span<const float>> weights,
                              std::span<const float> bias, const Tensors& tensors,
                              std::span<const Sample> samples, std::span<const float> scale = {});

/// Half the distance between neighbours of a storage type narrower than fp32 at a value; 0 of fp32.
double half_ulp(double value, DataType type);

/// How far a result is off: nothing where both are NaN, infinitely where one side alone is finite.
double deviation(double got, double wanted);

struct Accuracy {
  /// Largest error over the largest reference output of its image's channel (among the samples); infinite
  /// where one side is a NaN or an infinity and the other is not.
  double max_relative_error = 0;
  /// Largest error over what class fast allows: 1e-6 of the channel's largest value, before the epilogue,
  /// with the bias or behind it all, or 2^-24 * |w| * |x| of the channel, whichever is larger, plus half a
  /// unit in the last place of the storage type; times the channel's scale where there is one. At most 1 is
  /// within the bound.
  double max_of_allowed = 0;
};
Accuracy compare(const Problem& problem, std::span<const std::span<const float>> weights,
                 std::span<const float> bias, const Tensors& tensors, std::span<const Sample> samples,
                 std::span<const double> expected, std::span<const float> scale = {});

}  // namespace replk::depthwise
