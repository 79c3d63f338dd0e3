// What comes behind a sum and its bias where the code that summed does not do it itself.
#pragma once
#include <cstdint>

#include "core/types.hpp"

namespace replk::simd {

/// Activation, scale and residual of `count` packed values, in place: vectors of `lanes` (8 or 16) channels.
/// scale: a vector, or null for none; residual: as x, or null. The bits of portable. Needs AVX2 and FMA.
void finish(Activation activation, const float* scale, const float* residual, int lanes, float* x,
            std::int64_t count);

}  // namespace replk::simd
