// What class fast does where numbers near the largest float overflow within a sum or a transform whose result
// does not: such channels are computed anew.
#pragma once
#include <array>
#include <cstddef>
#include <span>
#include <vector>

#include "depthwise/algorithm.hpp"

namespace replk::depthwise {

/// Thread-safe but for set_weights.
class Rescue {
 public:
  /// lent: the weights that set_weights is given stay where they are and as they are, until it is given
  /// others.
  explicit Rescue(const Problem& problem, bool lent = false);

  /// Copies them, where they are not lent; allocates nothing. packing_overflowed: whether what an algorithm
  /// derives from them overflowed: then no run says that it has, and each must be taken for one.
  void set_weights(std::span<const std::span<const float>> branches, std::span<const float> bias,
                   std::span<const float> scale, bool packing_overflowed);
  bool always() const { return always_; }
  /// Whether an image (its first value is src) has a number so large that sums of some channel may overflow.
  /// Reads all of it, along memory. Only of a problem with a residual.
  bool may_be_needed(const void* src, int threads) const;
  /// Computes these channels of each image from the definition in double and writes them; the others stay. A
  /// channel that holds a NaN or an infinity stays too. residual must not be dst. Allocates nothing.
  void run(const Tensors& tensors, std::int64_t batch, int threads) const;
  std::size_t bytes() const { return sizeof(float) * (weights_.size() + bias_.size() + scale_.size()); }

 private:
  template <class T>
  bool large(const T* image, int channel) const;
  template <class T>
  void compute(const Tensors& tensors, std::int64_t image, int channel) const;
  double sum_of_weights(int channel) const;
  float safe_limit() const;

  Problem problem_;
  std::vector<float>
      weights_;  // branch after branch: [channels][kernel_h][kernel_w]; none where they are lent
  std::array<const float*, 16> branches_{};
  std::vector<float> bias_, scale_;
  float limit_ = 0;  // numbers below it overflow in no channel
  bool always_ = false;
};

}  // namespace replk::depthwise
