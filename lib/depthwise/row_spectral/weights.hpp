// The spectra of a kernel, packed for the column pass of row-spectral.
#pragma once
#include <memory>
#include <vector>

#include "core/memory.hpp"
#include "depthwise/problem/weights.hpp"
#include "depthwise/row_spectral/geometry.hpp"
#include "jit/x64/code.hpp"

namespace replk::depthwise {

/// A block of channels after the other; in each real planes, then pairs of planes (which take as much room
/// whether their taps or their spectrum lie there).
class Spectra {
 public:
  /// Gets code and memory. signs: how the row codelets store planes.
  Spectra(const RowSpectralGeometry& geometry, const Kernel& kernel, const std::vector<int>& signs);

  /// Transforms and packs, on at most `threads` threads; allocates nothing. With kernels of fp32: each tap is
  /// rounded once, and its spectrum has the error of a row pass.
  void set(const Weights& weights, int threads);

  /// Of one dimension: the way back, in double. A row of a channel's kernel, [kernel.width].
  bool unpacks() const { return !way_back_.empty(); }
  void unpack(int channel, int row, double* to) const;

  std::span<const std::byte> weights() const {
    return std::as_bytes(std::span(weights_.data(), weights_.size()))
        .first(block_bytes() * static_cast<std::size_t>(blocks_));
  }
  /// Of a block of channels. One plane takes real_floats(), a pair pair_floats(), in fp32 or fp16.
  const char* block(int index) const {
    return reinterpret_cast<const char*>(weights_.data()) + block_bytes() * static_cast<std::size_t>(index);
  }
  /// [blocks][lanes], zeros beyond the last channel; with weights in fp16 [blocks][2][lanes], the second
  /// vector being what each channel's results are multiplied by. scale() null where there is none.
  const float* bias() const { return bias_.data(); }
  const float* scale() const { return scale_.size() > 0 ? scale_.data() : nullptr; }
  std::size_t bytes() const;

 private:
  void set_block(const Weights& weights, int block);
  void transform_rows(const Weights& weights, int block, float* to);
  void transform_columns(float* pairs) const;
  void halve(float* block, float* bias) const;
  void close_up();
  std::size_t block_bytes() const { return static_cast<std::size_t>(block_floats_) * (half_ ? 2 : 4); }
  void find_way_back();
  std::int64_t place(int plane, int line) const;
  double tap(int channel, int line, int tap) const;

  Kernel kernel_;
  int lanes_, blocks_, reals_, pairs_;
  bool along_h_, half_;
  std::vector<int> across_taps_;
  std::int64_t real_planes_floats_, pair_floats_, block_floats_;  // of all real planes, of a pair, of a block
  core::Buffer<float> weights_, bias_, scale_;
  std::vector<float> way_back_;                      // [taps of a line][planes], of one dimension
  std::shared_ptr<const jit::Code> rows_, columns_;  // columns: of two dimensions
};

}  // namespace replk::depthwise
