// An axis of a convolution, cut into segments.
#pragma once
#include <vector>

#include "depthwise/problem/axis.hpp"

namespace replk::depthwise {

/// The segments of an axis, in order. Neighbours inside the map differ in their place alone and are kept
/// as one run, and so are neighbours in the padding: a side of 65,536 pixels has a thousand segments, but a
/// handful of runs.
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
