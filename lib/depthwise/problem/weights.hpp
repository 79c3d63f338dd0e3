// The weights of a problem: every branch's, merged as they are read.
#pragma once
#include <array>
#include <span>

#include "depthwise/problem/kernel.hpp"
#include "depthwise/problem/problem.hpp"

namespace replk::depthwise {

/// Views of a caller's weights, which outlive this. Reading allocates nothing; any number of threads may
/// read.
class Weights {
 public:
  /// branches[i] is branch i's, [channels][kernel_h][kernel_w], fp32. bias and scale are [channels], or empty
  /// for none. Throws invalid_argument when a span's size is wrong.
  Weights(const Problem& problem, std::span<const std::span<const float>> branches,
          std::span<const float> bias, std::span<const float> scale = {});

  /// Row a of the problem's merged kernel, or of a part of it (Kernel::offset_h and offset_w say which), for
  /// channels channel .. channel + lanes - 1: [kernel.width][lanes]. Branches are summed in double and
  /// rounded once. Zeros where the kernel has no tap or there is no channel. lanes: 8 or 16.
  void row(const Kernel& kernel, int a, int channel, int lanes, float* to) const;
  /// Rows first .. first + count - 1, one after the other.
  void rows(const Kernel& kernel, int first, int count, int channel, int lanes, float* to) const;
  /// The same of column b: [kernel.height][lanes].
  void column(const Kernel& kernel, int b, int channel, int lanes, float* to) const;
  /// Copies values of channels channel .. channel + lanes - 1: the bias (zeros where there is none) and the
  /// scale (ones), zeros where there is no channel.
  void bias(int channel, int lanes, float* to) const;
  Weights without_bias() const {
    Weights w = *this;
    w.bias_ = {};
    return w;
  }
  /// Kernels turned by 180 degrees: of a branch, tap (i, j) is the caller's (kernel_h - 1 - i, kernel_w - 1 -
  /// j).
  Weights turned() const;
  void scale(int channel, int lanes, float* to) const;

 private:
  struct Placed {
    const float* values;  // tap (0, 0) of channel 0
    int direction;        // of the taps behind it: 1, or -1 where they are turned
    Axis vertical, horizontal;
  };
  /// A row or column of a branch that lies in one of the kernel.
  struct Line {
    const float* values;  // tap 0 of channel 0
    std::int64_t next_tap, next_channel;
    const Axis* axis;
  };
  struct Lines {
    std::array<Line, 16> all;
    int count = 0;
  };
  /// The values of the first of some rows, where one branch alone has them all, in one piece; else null.
  const float* in_one_piece(const Kernel& kernel, int first, int count) const;
  static void copy(const Line& line, int offset, int taps, int channel, int valid, int lanes, float* to);
  template <class Has>
  void merge(const Lines& lines, int offset, int taps, int channel, int lanes, float* to, Has has) const;
  std::array<Placed, 16> branches_;
  int count_, channels_;
  std::span<const float> bias_, scale_;
};

}  // namespace replk::depthwise
