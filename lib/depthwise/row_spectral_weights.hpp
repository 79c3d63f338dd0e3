// The spectra of a kernel, packed for the column pass of row-spectral.
#pragma once
#include <vector>

#include "core/memory.hpp"
#include "depthwise/row_spectral_geometry.hpp"

namespace replk::depthwise {

struct PackedSpectra {
  core::Buffer<float> weights;  // a block of channels after the other; in each real planes, then pairs
  std::int64_t real = 0;        // floats of a real plane
  std::int64_t pair = 0;        // floats of a pair of planes
  std::int64_t block = 0;       // floats of a block
  core::Buffer<float> bias;     // [blocks][lanes], zero beyond the last channel
};

/// Transforms every line of taps in double and rounds once. signs: how the row codelets store planes. Runs on
/// at most `threads` threads (0: all).
PackedSpectra pack_spectra(const RowSpectralGeometry& geometry, const Kernel& kernel,
                           const std::vector<int>& signs, int threads);

}  // namespace replk::depthwise
