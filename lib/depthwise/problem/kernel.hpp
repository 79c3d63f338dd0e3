// The geometry of a problem's weights, merged: what every algorithm computes with.
#pragma once
#include <cstdint>
#include <vector>

#include "depthwise/problem/axis.hpp"
#include "depthwise/problem/problem.hpp"

namespace replk::depthwise {

/// All branches of a problem as one kernel (whose values Weights gives), cropped to the taps that some output
/// can reach. Output (oy, ox) is the sum over taps (a, b) with support of weight(a, b) *
/// input(oy*stride_h + a + offset_h, ox*stride_w + b + offset_w), input rows and columns outside the map
/// skipped. So offset = -pad + cropped rows.
struct Kernel {
  int height = 0, width = 0;
  int offset_h = 0, offset_w = 0;
  std::vector<std::uint8_t>
      support;  // [height][width]: 1 where some branch has a tap (dilation leaves holes)

  bool has(int a, int b) const { return support[static_cast<std::size_t>(a) * width + b] != 0; }
  int taps() const { return height * width; }
};

/// Validates the problem.
Kernel merged_geometry(const Problem& problem);

/// Whether `a` has the taps of `b`, turned by 180 degrees, and meets an output's gradient where `b` met the
/// input (strides 1).
bool turned(const Kernel& a, const Kernel& b);

/// The two sides of a merged kernel (dilation 1: holes are in its support).
Axis vertical(const Problem& problem, const Kernel& kernel);
Axis horizontal(const Problem& problem, const Kernel& kernel);

/// Multiply-adds of the merged kernel whose tap meets the map, over the whole batch.
std::int64_t meeting_taps(const Problem& problem, const Kernel& kernel);

}  // namespace replk::depthwise
