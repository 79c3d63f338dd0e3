// The column pass of spectral: a transform along the other axis too.
#pragma once
#include <optional>

#include "depthwise/row_spectral/column_pass.hpp"
#include "jit/kernels/column_fft.hpp"
#include "jit/kernels/weight_transform.hpp"

namespace replk::depthwise {

/// Pairs of planes by a complex transform of length n, their product with the kernel's spectrum, and the way
/// back; real planes, which are few, by Toeplitz products.
class TransformedColumns final : public ColumnPass {
 public:
  TransformedColumns(int n, jit::Factors factors) : n_(n), factors_(std::move(factors)) {}
  /// Null where a field is missing or out of range.
  static std::shared_ptr<const TransformedColumns> read(const Tiling& tiling);

  void name(Tiling& tiling) const override { tiling.algorithm = "spectral"; }
  void add_fields(const RowSpectralParameters& parameters, Tiling& tiling) const override;
  bool feasible(const RowSpectralGeometry& geometry) const override;
  int levels(const RowSpectralGeometry& geometry) const override;
  bool packs_taps() const override { return false; }
  std::int64_t pair_floats(const RowSpectralGeometry& geometry) const override;
  std::shared_ptr<const jit::Code> weights_code(const RowSpectralGeometry& geometry) const override;
  std::unique_ptr<ColumnCode> code(const RowSpectralGeometry& geometry,
                                   const Segment& segment) const override;
  SpectralCounts::Columns pair(const RowSpectralGeometry& geometry, const Segment& segment) const override;

 private:
  jit::ColumnFftSpec transform(const RowSpectralGeometry& geometry, const Segment& segment) const;

  int n_;
  jit::Factors factors_;
};

}  // namespace replk::depthwise
