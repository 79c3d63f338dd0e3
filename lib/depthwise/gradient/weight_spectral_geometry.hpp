// How the weight gradient of row-spectral cuts a map.
//
// The gradient is the forward pass with other roles: the input convolved with dy as the kernel, of which the
// outputs are the taps. So it takes the forward pass's tilings, and its codelets.
#pragma once
#include <cstdint>
#include <vector>

#include "depthwise/gradient/weight_scatter.hpp"
#include "depthwise/row_spectral/geometry.hpp"

namespace replk::depthwise {

struct WeightSpectralGeometry {
  WeightSpectralGeometry(const Problem& problem, const Kernel& kernel,
                         const RowSpectralParameters& parameters, Isa isa);

  /// The forward pass's, but for planes, which have room for rows of the input, of dy or of taps.
  RowSpectralGeometry forward;
  Lags along, across;  // the taps that are computed
  /// A run's pieces: each segment of each image. More than one in the problem's own batch are summed before
  /// the way back, this many at once.
  int together = 1;

  /// Of the input (dy: false) or of dy.
  jit::RowForwardSpec rows(bool dy, const Segment& segment, bool from_buffer) const;
  jit::ToeplitzSpec columns(const Segment& segment) const;
  /// To a tile: [across taps][along taps] vectors. add: to what is there.
  jit::RowInverseSpec taps(bool add) const;

  std::int64_t pieces(std::int64_t batch) const {
    return batch * forward.along_segments.size() * forward.across_segments.size();
  }
  std::int64_t tile_floats() const { return std::int64_t{along.count} * across.count * forward.lanes; }
  bool feasible() const;

 private:
  std::vector<int> signs_;  // of the planes of the input
};

}  // namespace replk::depthwise
