// The weight gradient by a real transform along one axis of the map (docs/algorithms.md).
#pragma once
#include "depthwise/gradient/weight_algorithm.hpp"

namespace replk::depthwise {

/// Class fast. Its tilings are spelt as the forward pass's: `row-spectral n=72 factors=8x9 ..`.
const WeightAlgorithm& row_spectral_weight_algorithm();

}  // namespace replk::depthwise
