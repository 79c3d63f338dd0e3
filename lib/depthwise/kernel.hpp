// The weights of a problem, merged: what every algorithm computes with.
#pragma once
#include <cstdint>
#include <span>
#include <vector>

#include "depthwise/axis.hpp"
#include "depthwise/problem.hpp"

namespace replk::depthwise {

/// All branches of a problem as one kernel, merged in double and rounded once, cropped to the taps that some
/// output can reach. Output (oy, ox) is the sum over taps (a, b) with support of weight(a, b) *
/// input(oy*stride_h + a + offset_h, ox*stride_w + b + offset_w), input rows and columns outside the map
/// skipped. So offset = -pad + cropped rows.
struct Kernel {
  int channels = 0, height = 0, width = 0;
  int offset_h = 0, offset_w = 0;
  std::vector<float> weights;  // [height][width][channels]
  std::vector<std::uint8_t>
      support;              // [height][width]: 1 where some branch has a tap (dilation leaves holes)
  std::vector<float> bias;  // [channels]; zeros where the problem has none

  bool has(int a, int b) const { return support[static_cast<std::size_t>(a) * width + b] != 0; }
  const float* at(int a, int b) const {
    return &weights[(static_cast<std::size_t>(a) * width + b) * channels];
  }
};

/// Pure. weights[i] is branch i's, [channels][kernel_h][kernel_w], fp32. bias is [channels], or empty for
/// none. Throws invalid_argument when a span's size is wrong.
Kernel merge(const Problem& problem, std::span<const std::span<const float>> weights,
             std::span<const float> bias);

/// Geometry only (support and sizes, no weights): what the candidates of a problem depend on.
Kernel merged_geometry(const Problem& problem);

/// The two sides of a merged kernel (dilation 1: holes are in its support).
Axis vertical(const Problem& problem, const Kernel& geometry);
Axis horizontal(const Problem& problem, const Kernel& geometry);

/// Multiply-adds of the merged kernel whose tap meets the map, over the whole batch.
std::int64_t meeting_taps(const Problem& problem, const Kernel& geometry);

}  // namespace replk::depthwise
