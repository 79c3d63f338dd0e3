#include "simd/taps.hpp"

#include <immintrin.h>

#include <algorithm>

#include "simd/rows.hpp"

// AVX-512's transpose of 16 x 16 writes whole vectors: gradients are more than an L1 holds, and each piece of
// a line would wait for it anew. GCC 12 warns of its own unmasked intrinsics, hence the masks.
#define REPLK_AVX512_INLINE [[gnu::target("avx512f,avx512dq,fma"), gnu::always_inline]] inline

namespace replk::simd {
namespace {

constexpr int wide = 16;
constexpr int lines_ahead = 2;             // of each channel
constexpr std::int64_t little = 16 << 10;  // bytes that may be fetched at once
constexpr __mmask16 all = 0xffff;

REPLK_AVX512_INLINE __m512 low(__m512 a, __m512 b) {
  return _mm512_maskz_shuffle_f32x4(all, a, b, 0x88);
}
REPLK_AVX512_INLINE __m512 high(__m512 a, __m512 b) {
  return _mm512_maskz_shuffle_f32x4(all, a, b, 0xdd);
}

/// Row r of the transpose of 16 x 16 goes to y + r * stride.
REPLK_AVX512_INLINE void transpose_tile(const float* x, float* y, std::int64_t stride) {
  __m512 a[wide], b[wide];
  for (int i = 0; i < wide; i++) a[i] = _mm512_loadu_ps(x + i * wide);
  for (int i = 0; i < wide; i += 2) {
    b[i] = _mm512_maskz_unpacklo_ps(all, a[i], a[i + 1]);
    b[i + 1] = _mm512_maskz_unpackhi_ps(all, a[i], a[i + 1]);
  }
  for (int i = 0; i < wide; i += 4)  // a[i + r]: rows r, r + 4, r + 8 and r + 12 of columns i .. i + 3
    for (int half = 0; half < 2; half++) {
      a[i + 2 * half] = _mm512_maskz_shuffle_ps(all, b[i + half], b[i + half + 2], 0x44);
      a[i + 2 * half + 1] = _mm512_maskz_shuffle_ps(all, b[i + half], b[i + half + 2], 0xee);
    }
  for (int r = 0; r < 4; r++) {
    const __m512 even_left = low(a[r], a[r + 4]), odd_left = high(a[r], a[r + 4]);
    const __m512 even_right = low(a[r + 8], a[r + 12]), odd_right = high(a[r + 8], a[r + 12]);
    _mm512_storeu_ps(y + r * stride, low(even_left, even_right));
    _mm512_storeu_ps(y + (r + 4) * stride, low(odd_left, odd_right));
    _mm512_storeu_ps(y + (r + 8) * stride, high(even_left, even_right));
    _mm512_storeu_ps(y + (r + 12) * stride, high(odd_left, odd_right));
  }
}

/// The last taps go with some before them for a second time.
[[gnu::target("avx512f,avx512dq,fma")]] void transpose_wide(const float* tile, int taps, float* to,
                                                            std::int64_t stride) {
  for (int t = 0; t + wide <= taps; t += wide) {
    for (int c = 0; c < wide; c++) __builtin_prefetch(to + c * stride + t + lines_ahead * wide, 1);
    transpose_tile(tile + t * wide, to + t, stride);
  }
  if (taps % wide) transpose_tile(tile + (taps - wide) * wide, to + taps - wide, stride);
}

}  // namespace

void transpose_taps(const float* tile, int taps, int lanes, int count, float* to, std::int64_t stride) {
  if (lanes == wide && count == wide && taps >= wide) return transpose_wide(tile, taps, to, stride);
  unpack_rows({DataType::f32, 0, 0, 1, stride, taps}, tile, {lanes}, to, {0, count});
}

void expect_taps(int taps, int count, const float* to, std::int64_t stride) {
  if (4 * std::int64_t{count} * taps > little) return;
  expect_rows({DataType::f32, 0, 0, 1, stride, taps}, to, {0, count});
}

[[gnu::target("avx2,fma")]] void gather_taps(const TapSums& sums, std::span<const std::int64_t> rows,
                                             std::span<const std::int64_t> columns, int lanes, float* to) {
  for (const std::int64_t row : rows)
    for (const std::int64_t column : columns) {
      const bool tap = row >= 0 && column >= 0;
      const float* from = sums.tile + row + column;
      for (int l = 0; l < lanes; l += 8, to += 8) {
        __m256 sum = tap ? _mm256_loadu_ps(from + l) : _mm256_setzero_ps();
        for (int i = 1; tap && i < sums.count; i++)
          sum = _mm256_add_ps(sum, _mm256_loadu_ps(from + i * sums.next + l));
        _mm256_storeu_ps(to, sum);
      }
    }
}

[[gnu::target("avx2")]] void add(const float* what, int count, float* to) {
  for (int i = 0; i < count; i += 8)
    _mm256_storeu_ps(to + i, _mm256_add_ps(_mm256_loadu_ps(to + i), _mm256_loadu_ps(what + i)));
}

namespace {

/// Adds a vector of floats to sums in double.
[[gnu::target("avx2")]] inline void add_widened(__m256 v, double* sums) {
  _mm256_storeu_pd(sums, _mm256_add_pd(_mm256_loadu_pd(sums), _mm256_cvtps_pd(_mm256_castps256_ps128(v))));
  _mm256_storeu_pd(sums + 4,
                   _mm256_add_pd(_mm256_loadu_pd(sums + 4), _mm256_cvtps_pd(_mm256_extractf128_ps(v, 1))));
}

}  // namespace

/// Up to sixteen at a time in fp32, of which each passes through five roundings.
[[gnu::target("avx2")]] void add_vectors(const float* from, int count, std::int64_t stride, int lanes,
                                         double* sums) {
  constexpr int chains = 4, most = 16;
  for (int i = 0; i < count; i += most, from += most * stride) {
    const int here = std::min(most, count - i);
    for (int l = 0; l < lanes; l += 8) {
      __m256 sum[chains] = {_mm256_setzero_ps(), _mm256_setzero_ps(), _mm256_setzero_ps(),
                            _mm256_setzero_ps()};
      int k = 0;
      for (; k + chains <= here; k += chains)
        for (int c = 0; c < chains; c++)
          sum[c] = _mm256_add_ps(sum[c], _mm256_loadu_ps(from + (k + c) * stride + l));
      for (; k < here; k++) sum[0] = _mm256_add_ps(sum[0], _mm256_loadu_ps(from + k * stride + l));
      add_widened(_mm256_add_ps(_mm256_add_ps(sum[0], sum[1]), _mm256_add_ps(sum[2], sum[3])), sums + l);
    }
  }
}

}  // namespace replk::simd
