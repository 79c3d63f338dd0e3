#include "depthwise/segments.hpp"

#include <algorithm>
#include <cstdint>

namespace replk::depthwise {

Segments::Segments(const Axis& axis, int size) : axis_(axis), size_(size > 0 ? size : axis.outputs) {
  for (int out = 0; out < axis.outputs;) {
    Segment s;
    s.out = out;
    s.outs = std::min(size_, axis.outputs - out);
    const std::int64_t base = std::int64_t{out} * axis.stride + axis.offset;
    const std::int64_t end = base + std::int64_t{s.outs - 1} * axis.stride + axis.taps;
    const std::int64_t in = std::clamp<std::int64_t>(base, 0, axis.inputs);
    s.in = static_cast<int>(in);
    s.ins = static_cast<int>(std::clamp<std::int64_t>(end, in, axis.inputs) - in);
    s.first = static_cast<int>(in - base);
    // Those after one that lies inside the map are like it, as long as they are whole and inside too.
    int count = 1;
    if (base >= 0 && end <= axis.inputs)
      count += static_cast<int>(std::min((axis.inputs - end) / (std::int64_t{size_} * axis.stride),
                                         std::int64_t{axis.outputs - out - s.outs} / size_));
    runs_.push_back({s, out / size_, count});
    out += (count - 1) * size_ + s.outs;
  }
}

int Segments::run_of(int index) const {
  int run = 0;
  while (index >= runs_[run].begin + runs_[run].count) run++;
  return run;
}

Segment Segments::operator[](int index) const {
  const Run& run = runs_[run_of(index)];
  Segment s = run.segment;
  s.out += (index - run.begin) * size_;
  s.in += (index - run.begin) * size_ * axis_.stride;
  return s;
}

int Segments::most_ins() const {
  int most = 0;
  for (const Run& run : runs_) most = std::max(most, run.segment.ins);
  return most;
}

int Segments::most_outs() const {
  int most = 0;
  for (const Run& run : runs_) most = std::max(most, run.segment.outs);
  return most;
}

int Segments::least_length() const {
  int least = 1;
  for (const Run& run : runs_) {
    const Segment& s = run.segment;
    const int last_output = (s.outs - 1) * axis_.stride;
    if (s.ins > 0) least = std::max({least, s.first + s.ins, last_output + axis_.taps - s.first});
    least = std::max(least, last_output + 1);
  }
  return least;
}

}  // namespace replk::depthwise
