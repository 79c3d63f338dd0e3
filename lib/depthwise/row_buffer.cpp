#include "depthwise/row_buffer.hpp"

#include <immintrin.h>

#include <algorithm>

#include "core/gelu.hpp"
#include "core/half.hpp"

namespace replk::depthwise {
namespace {

// pack_row() takes neighbouring columns of NCHW eight at a time.
bool packs(const RowLayout& layout) {
  return layout.channel_stride == 1 || layout.pixel_stride == 1;
}

template <class T>
void load_strided(const RowLayout& layout, const T* x, int channels, int lanes, float* packed,
                  std::int64_t block_stride) {
  for (int c = 0; c < (channels + lanes - 1) / lanes * lanes; c++) {
    float* to = packed + c / lanes * block_stride + c % lanes;
    for (int i = 0; i < layout.width; i++)
      to[i * lanes] =
          c < channels ? core::to_float(x[c * layout.channel_stride + i * layout.pixel_stride]) : 0;
  }
}

template <class T>
void store_strided(const RowLayout& layout, const float* packed, std::int64_t block_stride, int channels,
                   int lanes, T* x) {
  for (int c = 0; c < channels; c++) {
    const float* from = packed + c / lanes * block_stride + c % lanes;
    for (int i = 0; i < layout.width; i++)
      x[c * layout.channel_stride + i * layout.pixel_stride] = core::from_float<T>(from[i * lanes]);
  }
}

}  // namespace

void load_row(const RowLayout& layout, const void* tensor, std::int64_t at, int channels, int lanes,
              float* packed, std::int64_t block_stride) {
  if (packs(layout)) return pack_row(layout, tensor, at, channels, lanes, packed, block_stride);
  const auto load = [&](auto word) {
    load_strided(layout, static_cast<const decltype(word)*>(tensor) + at, channels, lanes, packed,
                 block_stride);
  };
  switch (layout.type) {
    case DataType::f32:
      return load(float{});
    case DataType::bf16:
      return load(core::Bf16{});
    case DataType::f16:
      return load(core::F16{});
  }
}

void store_row(const RowLayout& layout, const float* packed, std::int64_t block_stride, int channels,
               int lanes, void* tensor, std::int64_t at) {
  if (packs(layout)) return unpack_row(layout, packed, block_stride, channels, lanes, tensor, at);
  const auto store = [&](auto word) {
    store_strided(layout, packed, block_stride, channels, lanes, static_cast<decltype(word)*>(tensor) + at);
  };
  switch (layout.type) {
    case DataType::f32:
      return store(float{});
    case DataType::bf16:
      return store(core::Bf16{});
    case DataType::f16:
      return store(core::F16{});
  }
}

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
