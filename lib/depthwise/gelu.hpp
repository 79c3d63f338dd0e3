// GELU of packed rows, for kernels that do not apply it themselves.
#pragma once
#include <cstdint>

namespace replk::depthwise {

/// x = gelu(x), plus the residual where it is not null. count is a multiple of 8. Needs AVX2 and FMA.
void apply_gelu(float* x, const float* residual, std::int64_t count);

}  // namespace replk::depthwise
