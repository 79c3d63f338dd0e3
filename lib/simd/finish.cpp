#include "simd/finish.hpp"

#include <immintrin.h>

#include "core/gelu.hpp"
#include "core/swish.hpp"

#define REPLK_AVX2_INLINE [[gnu::target("avx2,fma"), gnu::always_inline]] inline

namespace replk::simd {
namespace {

// core::gelu, core::silu and core::hard_swish, operation by operation.

REPLK_AVX2_INLINE __m256 gelu(__m256 v) {
  const __m256 limit = _mm256_set1_ps(core::gelu_limit),
               magnitude = _mm256_castsi256_ps(_mm256_set1_epi32(0x7fffffff));
  const __m256 t = _mm256_min_ps(limit, _mm256_and_ps(v, magnitude));
  const __m256 u = _mm256_fmadd_ps(t, _mm256_set1_ps(core::gelu_scale), _mm256_set1_ps(-1.0f));
  __m256 p = _mm256_set1_ps(core::gelu_coefficients[core::gelu_degree]);
  for (int d = core::gelu_degree - 1; d >= 0; d--)
    p = _mm256_fmadd_ps(p, u, _mm256_set1_ps(core::gelu_coefficients[d]));
  const __m256 bump = _mm256_mul_ps(_mm256_mul_ps(t, _mm256_sub_ps(limit, t)), p);
  return _mm256_sub_ps(_mm256_max_ps(_mm256_setzero_ps(), v), bump);
}

REPLK_AVX2_INLINE __m256 silu(__m256 v) {
  const __m256 round = _mm256_set1_ps(core::silu_round);
  const __m256 lowest = _mm256_max_ps(_mm256_set1_ps(-core::silu_limit), v);
  const __m256 y =
      _mm256_xor_ps(_mm256_min_ps(_mm256_set1_ps(core::silu_limit), lowest), _mm256_set1_ps(-0.0f));
  const __m256 shifted = _mm256_fmadd_ps(y, _mm256_set1_ps(core::silu_log2e), round);
  const __m256 n = _mm256_sub_ps(shifted, round);
  const __m256 r = _mm256_fnmadd_ps(n, _mm256_set1_ps(core::silu_low),
                                    _mm256_fnmadd_ps(n, _mm256_set1_ps(core::silu_high), y));
  __m256 p = _mm256_set1_ps(core::silu_coefficients[core::silu_degree]);
  for (int d = core::silu_degree - 1; d >= 0; d--)
    p = _mm256_fmadd_ps(p, r, _mm256_set1_ps(core::silu_coefficients[d]));
  const __m256 power = _mm256_castsi256_ps(
      _mm256_add_epi32(_mm256_castps_si256(p), _mm256_slli_epi32(_mm256_castps_si256(shifted), 23)));
  return _mm256_div_ps(lowest, _mm256_add_ps(_mm256_set1_ps(1.0f), power));
}

REPLK_AVX2_INLINE __m256 hard_swish(__m256 v) {
  const __m256 lowest = _mm256_max_ps(_mm256_set1_ps(-3.0f), v);
  const __m256 part = _mm256_fmadd_ps(lowest, _mm256_set1_ps(1.0f / 6.0f), _mm256_set1_ps(0.5f));
  return _mm256_mul_ps(lowest, _mm256_min_ps(_mm256_set1_ps(1.0f), _mm256_max_ps(_mm256_setzero_ps(), part)));
}

template <Activation activation>
[[gnu::target("avx2,fma")]] void finish_as(const float* scale, const float* residual, int lanes, float* x,
                                           std::int64_t count) {
  for (std::int64_t i = 0; i < count; i += 8) {
    __m256 v = _mm256_loadu_ps(x + i);
    if (activation == Activation::relu) v = _mm256_max_ps(_mm256_setzero_ps(), v);
    if (activation == Activation::gelu) v = gelu(v);
    if (activation == Activation::silu) v = silu(v);
    if (activation == Activation::hard_swish) v = hard_swish(v);
    if (scale) v = _mm256_mul_ps(v, _mm256_loadu_ps(scale + i % lanes));
    if (residual) v = _mm256_add_ps(v, _mm256_loadu_ps(residual + i));
    _mm256_storeu_ps(x + i, v);
  }
}

}  // namespace

void finish(Activation activation, const float* scale, const float* residual, int lanes, float* x,
            std::int64_t count) {
  switch (activation) {
    case Activation::none:
      return finish_as<Activation::none>(scale, residual, lanes, x, count);
    case Activation::relu:
      return finish_as<Activation::relu>(scale, residual, lanes, x, count);
    case Activation::gelu:
      return finish_as<Activation::gelu>(scale, residual, lanes, x, count);
    case Activation::silu:
      return finish_as<Activation::silu>(scale, residual, lanes, x, count);
    case Activation::hard_swish:
      return finish_as<Activation::hard_swish>(scale, residual, lanes, x, count);
  }
}

}  // namespace replk::simd
