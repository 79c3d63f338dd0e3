// An axis of a convolution, cut into segments.
#pragma once
#include <vector>

namespace replk::depthwise {

/// One axis of a convolution: output q sums taps t of input q * stride + t + offset.
struct Axis {
  int inputs = 0, outputs = 0, stride = 1, offset = 0, taps = 0;
};

/// Some consecutive outputs of an axis and the inputs that they need. In local coordinates output q lies at
/// (q - out) * stride and needs the local inputs from there on, one a tap; local input i is input out *
/// stride + offset + i. Those inside the map are first .. first + ins - 1, beginning with input `in`.
struct Segment {
  int out = 0, outs = 0, in = 0, ins = 0, first = 0;
};

/// The segments of an axis, in order. Neighbours inside the map differ in their place alone and are told
/// once, as a run: a side of 65,536 pixels has a thousand segments, but three or four runs.
class Segments {
 public:
  struct Run {
    Segment segment;  // the first; the others have other `out` and `in`
    int begin, count;
  };

  Segments() = default;
  /// Segments of `size` outputs (the last may be smaller); size 0: one segment.
  Segments(const Axis& axis, int size);

  int size() const { return runs_.empty() ? 0 : runs_.back().begin + runs_.back().count; }
  const std::vector<Run>& runs() const { return runs_; }
  /// Which run the segment is of; its place is in runs().
  int run_of(int index) const;
  Segment operator[](int index) const;

  int most_ins() const;
  int most_outs() const;
  /// The least transform length at which no product of an input and a tap wraps around onto an output.
  int least_length() const;

 private:
  Axis axis_;
  int size_ = 0;
  std::vector<Run> runs_;
};

}  // namespace replk::depthwise
