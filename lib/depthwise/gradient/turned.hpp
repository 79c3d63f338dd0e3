// The input gradient of a layer as forward convolutions of dy with kernels that are turned by 180 degrees.
//
// With stride s, the pixels of dx fall into s x s classes by their remainder: pixel s * j + r of an axis gets
// dy[j - e] through the taps a with a * dilation + offset = s * e + r, which are every so many taps of the
// branch. Of each class, a convolution of dy with stride 1 gives the pixels that some tap reaches.
#pragma once
#include <span>
#include <vector>

#include "depthwise/problem/problem.hpp"

namespace replk::depthwise {

/// Taps of one axis of a branch that reach the pixels of one remainder: first, first + step, ...
struct TapClass {
  int first = 0, step = 1, taps = 0;
  int dilation = 1;  // rows of dy between neighbours
  int shift = 0;     // e of the first; that of tap i is shift + i * dilation

  int last_shift() const { return shift + (taps - 1) * dilation; }
};

/// The taps of remainder r, 0 <= r < axis.stride.
TapClass taps_of_remainder(const Axis& axis, int r);

/// What of a branch goes into a turned kernel.
struct Source {
  int branch = 0;
  TapClass vertical, horizontal;
};

/// One branch of a turned problem: its taps are those of its sources, in reverse order, summed where they
/// meet.
struct Turned {
  Branch branch;
  int last_h = 0, last_w = 0;  // e of tap 0
  std::vector<Source> sources;
};

/// Pixels of dx that one convolution of dy gives: row + i * stride_h, column + j * stride_w of the layer's
/// strides.
struct Part {
  Problem problem;  // dense tensors, no bias; layouts as dy's and dx's
  int row = 0, column = 0;
  std::vector<Turned> branches;
  /// Whether each is a whole one of the layer, as with stride 1: its weights are the layer's, read backwards.
  bool whole = false;
};

/// All parts, in the order of their remainders. A class has none where no tap reaches it, and several, to be
/// summed, where its branches fit into no kernel together. `problem` is valid.
std::vector<Part> turned_parts(const Problem& problem);

/// Turned kernels from the branches of the layer: to[i] is of branch i of the part,
/// [channels][kernel_h][kernel_w]. Values that meet are summed in double and rounded once. Allocates nothing.
void turn_weights(const Problem& problem, const Part& part, std::span<const std::span<const float>> weights,
                  std::span<float* const> to, int threads);

}  // namespace replk::depthwise
