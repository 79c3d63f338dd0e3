// The gradient of a depthwise convolution by its weights, and by its bias.
#pragma once
#include <cstddef>
#include <memory>
#include <span>
#include <string>

#include "depthwise/plan.hpp"
#include "depthwise/problem/problem.hpp"
#include "depthwise/tiling.hpp"

namespace replk::depthwise {

class WeightExecutor;

/// What a run reads and writes, of any alignment. No two overlap.
struct WeightGradientTensors {
  const void* src = nullptr;  // the convolution's input, in the problem's layout, type and strides
  const void* dy = nullptr;   // the gradient by its output, as that lies
  /// Of each branch: fp32, [channels][kernel_h][kernel_w]; null where it is not wanted. Taps that never meet
  /// the map have gradient 0.
  std::span<float* const> dweights;
  float* dbias = nullptr;  // [channels], or null
};

/// dw[a][b] = sum over images and outputs (y, x) of dy[y][x] * src[y * stride + a * dilation - pad][x * ..],
/// per output channel; dbias the sum of dy. Errs in class fast by about 1e-7, at most 1e-6 of the channel's
/// largest gradient or 2^-24 * |dy| * |src| where that is larger; class exact sums products in double, image
/// by image, row by row, and rounds once. Thread-safe once made; holds no weights. Bits do not depend on the
/// number of threads. A NaN or an infinity stays in its channel.
class WeightGradient {
 public:
  /// options.scale is not used. Throws invalid_argument where the problem has an activation, a scale or a
  /// residual (dy is the gradient of the plain convolution), or a forced tiling cannot compute it.
  explicit WeightGradient(const Problem& problem, const PlanOptions& options = {});
  ~WeightGradient();
  WeightGradient(WeightGradient&&) noexcept;
  WeightGradient& operator=(WeightGradient&&) noexcept;

  const Problem& problem() const { return problem_; }
  const Tiling& tiling() const { return tiling_; }
  /// As Plan::source().
  const std::string& source() const { return source_; }
  int threads() const { return threads_; }
  const WeightExecutor& executor() const { return *executor_; }
  /// Bytes of generated code and tables.
  std::size_t prepared_bytes() const;
  /// Of any batch.
  std::size_t workspace_bytes() const { return workspace_bytes_; }

  /// accumulate: adds to what dweights and dbias hold. Allocates nothing, once a thread that brings no
  /// workspace has one. Throws invalid_argument where a tensor is absent.
  void run(const WeightGradientTensors& tensors, bool accumulate, const PlanRun& options = {}) const;

 private:
  Problem problem_;
  Tiling tiling_;
  std::string source_;
  int threads_ = 1;
  std::size_t workspace_bytes_ = 0;
  std::unique_ptr<WeightExecutor> executor_;
};

}  // namespace replk::depthwise
