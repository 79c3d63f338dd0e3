// What class fast does where numbers near the largest float overflow within a sum or a transform whose result
// does not: such channels are computed anew.
#pragma once
#include <cstddef>
#include <vector>

#include "depthwise/algorithm.hpp"

namespace replk::depthwise {

/// Immutable and thread-safe.
class Rescue {
 public:
  Rescue(const Problem& problem, Kernel kernel);

  /// Whether a channel's weights are so large that what algorithms derive from them may be infinite: then no
  /// run says that it has overflowed, and each must be taken for one.
  bool always() const { return always_; }
  /// Whether src has a number so large that sums of some channel may overflow. Reads all of it.
  bool may_be_needed(const void* src, int threads) const;
  /// Computes these channels from the definition in double and writes them; the others stay. A channel that
  /// holds a NaN or an infinity stays too. residual must not be dst. Allocates nothing.
  void run(const Tensors& tensors, int threads) const;
  std::size_t bytes() const { return sizeof(float) * (kernel_.weights.size() + limits_.size()); }

 private:
  static constexpr int lanes = 8;  // channels a task

  template <class T>
  unsigned large_channels(const T* src, std::int64_t image, int first, int count) const;
  template <class T>
  void run_task(const Tensors& tensors, std::int64_t task) const;
  template <class T>
  void output(const Tensors& tensors, std::int64_t image, int first, int count, unsigned chosen, int row,
              int column) const;
  int blocks() const { return (problem_.channels + lanes - 1) / lanes; }

  Problem problem_;
  Kernel kernel_;
  std::vector<float> limits_;  // [channels]: inputs from here on may overflow; infinity: never to be rescued
  bool always_ = false;
};

}  // namespace replk::depthwise
