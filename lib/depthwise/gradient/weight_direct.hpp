// The weight gradient of short kernels by its definition, some taps at a time in registers.
#pragma once
#include "depthwise/gradient/weight_algorithm.hpp"

namespace replk::depthwise {

/// Class fast: sums are cut so that no product passes through more than some 50 roundings of fp32. `direct
/// rows=3 columns=7 packed=0`: the taps in registers, and whether rows are copied before they are read.
const WeightAlgorithm& direct_weight_algorithm();

}  // namespace replk::depthwise
