// Direct convolution with generated code: the bits of portable, at the speed of the multiply-adds.
#pragma once
#include "depthwise/algorithm.hpp"

namespace replk::depthwise {

/// Tilings: `direct rows=R columns=T ring=0|1 blocks=B`. A register tile of R output rows by at most T
/// columns; ring: input rows are first packed, one channel vector a pixel, into a ring of just the rows in
/// use, so that they lie in L1 whatever the channel stride (and fp32 whatever the storage); blocks: channel
/// vectors that a task takes together.
const Algorithm& direct_algorithm();

}  // namespace replk::depthwise
