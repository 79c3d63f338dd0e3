// One side of one kernel: which taps meet the map, and what a part of the outputs needs of the inputs.
#pragma once
#include <cstdint>

namespace replk::depthwise {

/// Positions [first, end); none where end <= first.
struct Range {
  int first = 0, end = 0;
  int size() const { return end > first ? end - first : 0; }
  bool empty() const { return end <= first; }
  bool operator==(const Range&) const = default;
};

/// Some consecutive outputs of an axis and the inputs that they need. In local coordinates output q lies at
/// (q - out) * stride and needs the local inputs from there on, one a tap; local input i is input out *
/// stride + offset + i. Those inside the map are first .. first + ins - 1, beginning with input `in`; `in`
/// and `first` say nothing where ins is 0.
struct Segment {
  int out = 0, outs = 0, in = 0, ins = 0, first = 0;
};

/// One side (height or width) of a branch of a problem, or of its merged kernel: output q sums taps t of
/// input q * stride + t * dilation + offset; what lies outside [0, input) is padding. offset = -padding
/// before the map, so that it is positive where the map is cropped.
struct Axis {
  int input = 0, output = 0, stride = 1, dilation = 1, offset = 0, taps = 0;

  int extent() const { return dilation * (taps - 1) + 1; }
  /// Input position of tap 0 for output q; may lie outside the map.
  int origin(int q) const { return q * stride + offset; }
  /// The taps that meet the map for output q.
  Range taps_of(int q) const;
  /// The tap that reads the input `distance` after an output's own place; -1 where there is none.
  int tap_at(int distance) const;
  /// The outputs that meet the map through a tap.
  Range outputs_of(int tap) const;
  /// From the first to the last tap that meets the map for some output.
  Range reach() const;
  /// The axis of these taps alone.
  Axis cropped(Range taps) const;
  /// Pairs of an output and a tap that meets the map.
  std::int64_t meeting() const;
  /// Precondition: dilation 1.
  Segment segment(int out, int outs) const;

  bool operator==(const Axis&) const = default;
};

}  // namespace replk::depthwise
