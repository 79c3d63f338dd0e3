// Plain C++: what runs without AVX2 or without executable memory, and the definition of the bits of class
// exact.
#pragma once
#include "depthwise/algorithm.hpp"

namespace replk::depthwise {

/// For every output: start at the bias, take kernel rows then columns in ascending order, skip taps outside
/// the map and taps without support, one fused multiply-add a tap (fp32), then the activation
/// (core/gelu.hpp), then the residual.
const Algorithm& portable_algorithm();

}  // namespace replk::depthwise
