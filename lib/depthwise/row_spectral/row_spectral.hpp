// A real transform along one axis of the map, Toeplitz products along the other (docs/algorithms.md).
#pragma once
#include "depthwise/row_spectral/algorithm.hpp"

namespace replk::depthwise {

/// Class fast. `row-spectral n=72 factors=8x9 axis=w rows=10 karatsuba=1 gauss=1 blocks=2`, and along= and
/// across= where an axis is cut into segments, packed=1 where rows are copied before they are read and after
/// they are written.
const SpectralAlgorithm& row_spectral_algorithm();

}  // namespace replk::depthwise
