// From sums of a merged kernel's taps, lanes side by side, to the gradients of its branches.
#pragma once
#include <cstddef>
#include <vector>

#include "depthwise/gradient/weight_algorithm.hpp"

namespace replk::depthwise {

/// The taps of a merged kernel along one axis that an algorithm computes: first + i * step, i < count. All
/// that have support are among them.
struct Lags {
  int first = 0, count = 0, step = 1;
  /// Of the taps that are marked.
  static Lags of(const std::vector<bool>& wanted);
  int extent() const { return (count - 1) * step + 1; }
};
/// The rows of a kernel with support, and the columns.
Lags vertical_lags(const Kernel& kernel);
Lags horizontal_lags(const Kernel& kernel);

/// Thread-safe.
class WeightScatter {
 public:
  /// A tile has a vector of `lanes` floats for each computed tap (i, j), at i * row_stride + j *
  /// column_stride floats.
  WeightScatter(const Problem& problem, const Kernel& kernel, const Lags& vertical, const Lags& horizontal,
                std::int64_t row_stride, std::int64_t column_stride, int lanes);

  /// Sums of channels first .. first + count - 1 (at most lanes): of slices of the batch, to be added in
  /// their order, times factor.
  struct Sums {
    const float* tile = nullptr;
    const double* bias = nullptr;  // [lanes]
    int slices = 1;
    std::int64_t next_tile = 0, next_bias = 0;  // elements
    bool overflowed = false;                    // whether an operation on the way has
    int first = 0, count = 0;
  };
  /// Writes them or adds them. What overflowed on the way in a channel of finite numbers is computed anew
  /// from the definition. scratch: bytes() of it, 64-byte aligned.
  void write(const Sums& sums, const WeightGradientTensors& tensors, const WeightRun& run,
             void* scratch) const;
  std::size_t bytes() const;
  /// Prefetches what write() will write of these channels.
  void expect(int first, int count, const WeightGradientTensors& tensors) const;

 private:
  struct Placed {
    std::vector<std::int64_t> rows, columns;  // of each tap, its place in a tile; -1: it never meets the map
    bool whole = false;                       // a tile has its taps one behind the other
  };
  void write_branch(int branch, const Sums& sums, const WeightGradientTensors& tensors, const WeightRun& run,
                    char* scratch) const;
  void rescue(int branch, int begin, int end, const Sums& sums, const WeightGradientTensors& tensors,
              const WeightRun& run, float* to, void* scratch) const;
  void write_bias(const Sums& sums, const WeightGradientTensors& tensors, const WeightRun& run,
                  void* scratch) const;

  const Problem problem_;
  const int lanes_;
  std::vector<Placed> branches_;
};

}  // namespace replk::depthwise
