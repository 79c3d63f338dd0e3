#include "depthwise/problem/segments.hpp"

#include <algorithm>
#include <cstdint>

namespace replk::depthwise {

Segments::Segments(const Axis& axis, int size) : axis_(axis), size_(size > 0 ? size : axis.output) {
  for (int out = 0; out < axis.output;) {
    const Segment s = axis.segment(out, std::min(size_, axis.output - out));
    const std::int64_t step = std::int64_t{size_} * axis.stride;
    const std::int64_t base = axis.origin(out),
                       end = base + std::int64_t{s.outs - 1} * axis.stride + axis.taps;
    // Those after one that lies inside the map, or outside it, are like it, as long as they are whole and lie
    // there too.
    std::int64_t alike = 0;
    if (base >= 0 && end <= axis.input) alike = (axis.input - end) / step;
    if (end <= 0) alike = -end / step;
    if (base >= axis.input) alike = axis.output;
    const int count = 1 + static_cast<int>(std::min(alike, std::int64_t{axis.output - out - s.outs} / size_));
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
  if (s.ins > 0) s.in += (index - run.begin) * size_ * axis_.stride;
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
