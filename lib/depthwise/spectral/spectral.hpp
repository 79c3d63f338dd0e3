// A real transform along one axis of the map, a complex one along the other (docs/algorithms.md).
#pragma once
#include "depthwise/row_spectral/algorithm.hpp"

namespace replk::depthwise {

/// Class fast. `spectral n=72 factors=8x9 axis=w columns=72 column-factors=6x12 blocks=2`, and what else
/// row-spectral has for its rows.
const SpectralAlgorithm& spectral_algorithm();

}  // namespace replk::depthwise
