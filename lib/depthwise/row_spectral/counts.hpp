// What a convolution by transforms does, counted from its code without generating it.
#pragma once
#include <map>
#include <mutex>
#include <string>

#include "depthwise/cost/spectral_cost.hpp"
#include "depthwise/row_spectral/geometry.hpp"
#include "jit/kernels/column_fft.hpp"

namespace replk::depthwise {

/// Counts of generated code, remembered: candidates share most of theirs. Thread-safe.
class KnownCounts {
 public:
  /// Both row passes of a pixel row, for all segments of an axis.
  jit::Counts rows(const RowSpectralGeometry& geometry);
  jit::Counts forward(const RowSpectralGeometry& geometry, const Segment& segment);
  jit::Counts real(jit::ToeplitzSpec spec);
  jit::Counts pair(jit::ToeplitzSpec spec);
  jit::Counts pair(jit::ColumnFftSpec spec);

 private:
  template <class Compute>
  jit::Counts remember(const std::string& key, const Compute& compute);

  std::mutex mutex_;
  std::map<std::string, jit::Counts> known_;
};
/// Of this process.
KnownCounts& known_counts();

SpectralCounts spectral_counts(const RowSpectralGeometry& geometry, int threads);

}  // namespace replk::depthwise
