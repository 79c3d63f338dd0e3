#include "depthwise/gelu.hpp"

#include <immintrin.h>

#include "core/gelu.hpp"

namespace replk::depthwise {

[[gnu::target("avx2,fma")]] void apply_gelu(float* x, const float* residual, std::int64_t count) {
  const __m256 limit = _mm256_set1_ps(core::gelu_limit),
               magnitude = _mm256_castsi256_ps(_mm256_set1_epi32(0x7fffffff));
  for (std::int64_t i = 0; i < count; i += 8) {
    const __m256 v = _mm256_loadu_ps(x + i);
    const __m256 t = _mm256_min_ps(limit, _mm256_and_ps(v, magnitude));
    const __m256 u = _mm256_fmadd_ps(t, _mm256_set1_ps(core::gelu_scale), _mm256_set1_ps(-1.0f));
    __m256 p = _mm256_set1_ps(core::gelu_coefficients[core::gelu_degree]);
    for (int d = core::gelu_degree - 1; d >= 0; d--)
      p = _mm256_fmadd_ps(p, u, _mm256_set1_ps(core::gelu_coefficients[d]));
    const __m256 bump = _mm256_mul_ps(_mm256_mul_ps(t, _mm256_sub_ps(limit, t)), p);
    __m256 y = _mm256_sub_ps(_mm256_max_ps(_mm256_setzero_ps(), v), bump);
    if (residual) y = _mm256_add_ps(y, _mm256_loadu_ps(residual + i));
    _mm256_storeu_ps(x + i, y);
  }
}

}  // namespace replk::depthwise
