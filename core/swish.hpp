// SiLU and hard-swish, as fixed sequences of fp32 operations: the portable code calls these functions, vector
// code (simd/finish.cpp) repeats them operation by operation, so both give the same bits.
#pragma once
#include <bit>
#include <cstdint>

#include "core/gelu.hpp"

namespace replk::core {

// silu(x) = x / (1 + exp(-x)). exp(y) = 2^n * exp(r), y = n * log2 + r with |r| <= log2 / 2: n by adding and
// taking away 1.5 * 2^23, r in two fused steps, log2 being silu_high + silu_low; exp(r) by Taylor's
// polynomial of degree 6, whose first left-out term is at most 1.2e-7 (relative). The error of the whole is
// at most 2e-7 * abs(x). Beyond +-silu_limit the result is x, or nearly 0.
constexpr float silu_limit = 87.0f, silu_log2e = 0x1.715476p+0f, silu_round = 0x1.8p+23f;
constexpr float silu_high = 0x1.62e4p-1f, silu_low = 0x1.7f7d1cp-20f;
constexpr float silu_coefficients[] = {1.0f,          1.0f,           0.5f,           0x1.555556p-3f,
                                       0x1.55555p-5f, 0x1.111112p-7f, 0x1.6c16c2p-10f};
constexpr int silu_degree = 6;

/// NaN gives NaN, +infinity itself, -infinity nearly 0.
template <class Fma>
inline float silu(float x, Fma fma) {
  const float lowest = max_second(-silu_limit, x);
  const float y = -min_second(silu_limit, lowest);
  const float shifted = fma(y, silu_log2e, silu_round), n = shifted - silu_round;
  const float r = fma(-n, silu_low, fma(-n, silu_high, y));
  float p = silu_coefficients[silu_degree];
  for (int i = silu_degree - 1; i >= 0; i--) p = fma(p, r, silu_coefficients[i]);
  // The last bits of `shifted` are n's: they go to the exponent.
  const float power =
      std::bit_cast<float>(std::bit_cast<std::uint32_t>(p) + (std::bit_cast<std::uint32_t>(shifted) << 23));
  return lowest / (1.0f + power);
}

/// x * min(max(x / 6 + 1/2, 0), 1). NaN gives NaN, +infinity itself, -infinity 0.
template <class Fma>
inline float hard_swish(float x, Fma fma) {
  const float lowest = max_second(-3.0f, x);
  const float part = min_second(1.0f, max_second(0.0f, fma(lowest, 1.0f / 6.0f, 0.5f)));
  return lowest * part;
}

}  // namespace replk::core
