// A prepared weight gradient of row-spectral.
#pragma once
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "core/memory.hpp"
#include "depthwise/gradient/weight_sliced.hpp"
#include "depthwise/gradient/weight_spectral_geometry.hpp"
#include "depthwise/problem/rows.hpp"
#include "jit/x64/code.hpp"

namespace replk::depthwise {

/// Rows of the input and of dy are transformed into planes; each frequency of a row of taps is a sum of
/// products down the columns; these are summed over images, and rows of taps come back.
class WeightSpectralExecutor final : public SlicedWeightExecutor {
 public:
  WeightSpectralExecutor(const WeightSpectralGeometry& geometry, const Kernel& kernel);
  std::size_t prepared_bytes() const override;

 private:
  /// The way of a tensor's rows into planes.
  struct RowPass {
    simd::RowLayout layout;
    RowSpectralGeometry::Window window;
    std::vector<jit::RowForward> direct, buffered;  // for each run of segments of the transformed axis
  };
  /// An image's segments.
  struct Piece {
    std::int64_t image;
    Segment along, across;
    int along_run, across_run;
  };
  /// Planes, and what a pass hands on.
  struct Scratch {
    char *src, *dy, *taps;
    float* window;
    char* columns;
  };

  std::int64_t pieces(std::int64_t batch) const override { return geometry_.pieces(batch); }
  std::size_t scratch_bytes() const override;
  void sum(const WeightGradientTensors& tensors, const Group& group, std::int64_t begin, std::int64_t end,
           char* scratch, const Sums& sums) const override;

  template <class Function>
  Function code(const std::string& spec, const std::function<std::vector<std::uint8_t>()>& generate);
  RowPass row_pass(bool dy);
  Piece piece(std::int64_t index) const;
  void transform(const RowPass& pass, const Piece& piece, bool dy, const void* tensor, const Group& group,
                 char* planes, float* window) const;
  void add_bias(const Piece& piece, const Group& group, const char* planes, double* bias) const;
  void clear_taps(const Group& group, char* planes) const;
  void come_back(const Group& group, bool add, const char* planes, float* tile) const;
  bool buffered(const Group& group) const { return geometry_.forward.buffered() || !group.whole; }
  std::size_t planes_bytes() const;
  std::size_t window_bytes() const;
  Scratch scratch(char* memory) const;

  const WeightSpectralGeometry geometry_;
  RowPass src_, dy_;
  std::vector<jit::Toeplitz> columns_;  // for each run of segments of the other axis
  jit::RowInverse first_ = nullptr, further_ = nullptr;
  std::vector<std::shared_ptr<const jit::Code>> code_;
  core::Buffer<float> zeros_;  // the bias that rows of taps do not have
  std::size_t column_scratch_ = 0;
};

}  // namespace replk::depthwise
