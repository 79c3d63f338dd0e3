// What class fast does where numbers near the largest float overflow within a sum or a transform whose result
// does not: such channels are computed anew.
#pragma once
#include <cstddef>
#include <memory>
#include <span>
#include <vector>

#include "core/memory.hpp"
#include "depthwise/algorithm.hpp"

namespace replk::depthwise {

/// Thread-safe but for set_weights.
class Rescue {
 public:
  /// turned: the executor has each kernel turned by 180 degrees.
  Rescue(const Problem& problem, const Kernel& kernel, std::shared_ptr<const Executor> executor, bool turned);
  /// Of a plan without a residual that has the weights of a layer's, turned: they are set by the layer's.
  Rescue(const Problem& problem, const Kernel& kernel, std::shared_ptr<const Rescue> layer);

  /// To be called when the executor has packed them. Copies what it could not give back; allocates nothing.
  /// packing_overflowed: whether what it derives from them overflowed: then no run says that it has, and each
  /// must be taken for one.
  void set_weights(std::span<const std::span<const float>> branches, std::span<const float> bias,
                   std::span<const float> scale, bool packing_overflowed);
  bool always() const { return layer_ ? layer_->always() : always_; }
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
  template <class T>
  void finish(const Tensors& tensors, std::int64_t at, int channel, double sum) const;
  double sum_of_weights(int channel) const;
  void line(int channel, int row, double* to) const;
  float safe_limit() const;

  Problem problem_;
  Kernel kernel_;
  std::shared_ptr<const Executor> executor_;
  std::shared_ptr<const Rescue> layer_;
  bool turned_ = false;
  core::Buffer<float> weights_;  // as they came, branch after branch: [channels][kernel_h][kernel_w]
  bool copied_ = false;          // whether they lie there, or are the executor's to unpack
  std::vector<float> bias_, scale_;
  float limit_ = 0;  // numbers below it overflow in no channel
  bool always_ = false;
};

}  // namespace replk::depthwise
