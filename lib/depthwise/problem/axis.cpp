#include "depthwise/problem/axis.hpp"

#include <algorithm>

namespace replk::depthwise {
namespace {

/// How many of 0, step, 2 * step, .. lie below `end`.
std::int64_t below(std::int64_t end, std::int64_t step) {
  return end <= 0 ? 0 : (end + step - 1) / step;
}

/// The i in [0, count) whose at + i * step lies in [0, size).
Range inside(std::int64_t at, std::int64_t step, int size, int count) {
  const auto clamped = [&](std::int64_t i) {
    return static_cast<int>(std::clamp<std::int64_t>(i, 0, count));
  };
  return {clamped(below(-at, step)), clamped(below(size - at, step))};
}

}  // namespace

Range Axis::taps_of(int q) const {
  return inside(origin(q), dilation, input, taps);
}

int Axis::tap_at(int distance) const {
  const int from_first = distance - offset;
  if (from_first < 0 || from_first % dilation != 0 || from_first / dilation >= taps) return -1;
  return from_first / dilation;
}

Range Axis::outputs_of(int tap) const {
  return inside(std::int64_t{tap} * dilation + offset, stride, input, output);
}

Range Axis::reach() const {
  Range all{taps, 0};
  for (int tap = 0; tap < taps; tap++)
    if (!outputs_of(tap).empty()) all = {std::min(all.first, tap), tap + 1};
  return all;
}

Axis Axis::cropped(Range range) const {
  Axis a = *this;
  a.offset += range.first * dilation;
  a.taps = range.size();
  return a;
}

std::int64_t Axis::meeting() const {
  std::int64_t pairs = 0;
  for (int tap = 0; tap < taps; tap++) pairs += outputs_of(tap).size();
  return pairs;
}

Segment Axis::segment(int out, int outs) const {
  const std::int64_t base = origin(out), end = base + std::int64_t{outs - 1} * stride + taps;
  const std::int64_t in = std::clamp<std::int64_t>(base, 0, input);
  return {out, outs, static_cast<int>(in), static_cast<int>(std::clamp<std::int64_t>(end, in, input) - in),
          static_cast<int>(in - base)};
}

}  // namespace replk::depthwise
