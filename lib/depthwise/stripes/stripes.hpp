// A cross-shaped kernel (SLaK's 51x5 + 5x51 + 5x5) as two stripes that are summed, each by the algorithm that
// suits it.
#pragma once
#include <optional>

#include "depthwise/algorithm.hpp"

namespace replk::depthwise {

/// A kernel as the sum of two with disjoint support: `vertical` has all rows of a band of columns,
/// `horizontal` a band of rows without those columns. The bias goes with `vertical`.
struct Stripes {
  Kernel vertical, horizontal;
};
/// Empty unless the support is a cross whose bounding stripes hold less than half of the bounding rectangle.
std::optional<Stripes> split_stripes(const Kernel& kernel);

/// Runs the vertical stripe (with the bias and the residual), then adds the horizontal one in place. Tiling:
/// `stripes v=ALGORITHM v.FIELD=... h=ALGORITHM h.FIELD=...`. Not for epilogues with an activation, which
/// would need the sum first, nor for half types, which would round the first stripe.
const Algorithm& stripes_algorithm();

}  // namespace replk::depthwise
