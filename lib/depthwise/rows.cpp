#include "depthwise/rows.hpp"

#include <immintrin.h>

#include <algorithm>

#include "core/half.hpp"
#include "core/memory.hpp"

// Compiled for AVX2 and F16C whatever the flags; callers run it only where the CPU has them.
#define REPLK_AVX2 [[gnu::target("avx2,fma,f16c")]]
#define REPLK_AVX2_INLINE [[gnu::target("avx2,fma,f16c"), gnu::always_inline]] inline

namespace replk::depthwise {
namespace {

using core::Bf16;
using core::F16;

constexpr int unit = 8;  // channels or columns handled at once

REPLK_AVX2_INLINE __m256 load8(const float* x) {
  return _mm256_loadu_ps(x);
}
REPLK_AVX2_INLINE __m256 load8(const Bf16* x) {
  const __m128i bits = _mm_loadu_si128(reinterpret_cast<const __m128i*>(x));
  return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(bits), 16));
}
REPLK_AVX2_INLINE __m256 load8(const F16* x) {
  return _mm256_cvtph_ps(_mm_loadu_si128(reinterpret_cast<const __m128i*>(x)));
}

REPLK_AVX2_INLINE void store8(float* x, __m256 v) {
  _mm256_storeu_ps(x, v);
}
REPLK_AVX2_INLINE void store8(Bf16* x, __m256 v) {
  const __m256i bits = _mm256_castps_si256(v);
  const __m256i odd = _mm256_and_si256(_mm256_srli_epi32(bits, 16), _mm256_set1_epi32(1));
  const __m256i rounded = _mm256_add_epi32(_mm256_add_epi32(bits, _mm256_set1_epi32(0x7fff)), odd);
  const __m256i quiet = _mm256_or_si256(bits, _mm256_set1_epi32(0x400000));
  const __m256i nan = _mm256_castps_si256(_mm256_cmp_ps(v, v, _CMP_UNORD_Q));
  const __m256i words = _mm256_srli_epi32(_mm256_blendv_epi8(rounded, quiet, nan), 16);
  const __m256i packed = _mm256_permute4x64_epi64(_mm256_packus_epi32(words, words), 0x08);
  _mm_storeu_si128(reinterpret_cast<__m128i*>(x), _mm256_castsi256_si128(packed));
}
REPLK_AVX2_INLINE void store8(F16* x, __m256 v) {
  _mm_storeu_si128(reinterpret_cast<__m128i*>(x), _mm256_cvtps_ph(v, _MM_FROUND_TO_NEAREST_INT));
}

/// Up to 8 elements; none past them is touched.
template <class T>
REPLK_AVX2_INLINE __m256 load_part(const T* x, int count) {
  alignas(32) float values[unit] = {};
  for (int i = 0; i < count; i++) values[i] = core::to_float(x[i]);
  return _mm256_load_ps(values);
}
REPLK_AVX2_INLINE __m256 load_part(const float* x, int count) {
  const __m256i lane = _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7);
  return _mm256_maskload_ps(x, _mm256_cmpgt_epi32(_mm256_set1_epi32(count), lane));  // masked lanes cannot fault
}
/// In pieces: a masked store is microcoded on AMD.
REPLK_AVX2_INLINE void store_part(float* x, __m256 v, int count) {
  __m128 low = _mm256_castps256_ps128(v);
  if (count & 4) {
    _mm_storeu_ps(x, low);
    low = _mm256_extractf128_ps(v, 1);
    x += 4;
  }
  if (count & 2) {
    _mm_storel_pi(reinterpret_cast<__m64*>(x), low);
    low = _mm_movehl_ps(low, low);
    x += 2;
  }
  if (count & 1) _mm_store_ss(x, low);
}
template <class T>
REPLK_AVX2_INLINE void store_part(T* x, __m256 v, int count) {
  alignas(32) float values[unit];
  _mm256_store_ps(values, v);
  for (int i = 0; i < count; i++) x[i] = core::from_float<T>(values[i]);
}

REPLK_AVX2_INLINE void transpose(__m256 (&m)[unit]) {
  __m256 pairs[unit], quads[unit];
  for (int i = 0; i < unit; i += 2) {
    pairs[i] = _mm256_unpacklo_ps(m[i], m[i + 1]);
    pairs[i + 1] = _mm256_unpackhi_ps(m[i], m[i + 1]);
  }
  for (int i = 0; i < unit; i += 4)
    for (int j = 0; j < 2; j++) {
      quads[i + 2 * j] = _mm256_shuffle_ps(pairs[i + j], pairs[i + j + 2], 0x44);
      quads[i + 2 * j + 1] = _mm256_shuffle_ps(pairs[i + j], pairs[i + j + 2], 0xee);
    }
  for (int i = 0; i < 4; i++) {
    m[i] = _mm256_permute2f128_ps(quads[i], quads[i + 4], 0x20);
    m[i + 4] = _mm256_permute2f128_ps(quads[i], quads[i + 4], 0x31);
  }
}

/// Where the unit of 8 channels that begins at `channel` lies in a packed row. (The lanes are a template's: a division
/// for each unit takes longer than moving it.)
template <int lanes>
inline std::int64_t packed_at(unsigned channel, std::int64_t block_stride) {
  return channel / lanes * block_stride + channel % lanes;
}

// Channels-last: pixel by pixel, so that each cache line is met once.

template <class T, int lanes>
REPLK_AVX2 void pack_channels_last(const RowLayout& layout, const T* x, int channels, float* packed,
                                   std::int64_t block_stride) {
  constexpr int line = core::alignment / sizeof(T);
  for (int column = 0; column < layout.width; column++) {
    const T* pixel = x + column * layout.pixel_stride;
    float* to = packed + column * lanes;
    // The next row is packed next, and its lines are too far apart for the CPU's own prefetcher. (A prefetch outside the
    // tensor is harmless.)
    for (int c = 0; c < channels; c += line) __builtin_prefetch(pixel + layout.row_stride + c);
    int c = 0;
    for (; c + lanes <= channels; c += lanes, to += block_stride)
      for (int i = 0; i < lanes; i += unit) _mm256_storeu_ps(to + i, load8(pixel + c + i));
    if (c == channels) continue;
    for (int i = 0; i < lanes; i += unit)
      _mm256_storeu_ps(to + i, load_part(pixel + c + i, std::clamp(channels - c - i, 0, unit)));
  }
}

template <class T, int lanes>
REPLK_AVX2 void unpack_channels_last(const RowLayout& layout, const float* packed, std::int64_t block_stride,
                                     int channels, T* x) {
  for (int column = 0; column < layout.width; column++) {
    T* pixel = x + column * layout.pixel_stride;
    for (int c = 0; c < channels; c += unit) {
      const __m256 v = _mm256_loadu_ps(packed + packed_at<lanes>(c, block_stride) + column * lanes);
      if (c + unit <= channels)
        store8(pixel + c, v);
      else
        store_part(pixel + c, v, channels - c);
    }
  }
}

// NCHW: 8 channels x 8 columns are transposed in registers.

template <class T, int lanes>
REPLK_AVX2 void pack_planes(const RowLayout& layout, const T* x, int channels, float* packed,
                            std::int64_t block_stride) {
  const int padded = (channels + lanes - 1) / lanes * lanes;
  for (int c = 0; c < padded; c += unit)
    for (int column = 0; column < layout.width; column += unit) {
      const int columns = std::min(unit, layout.width - column);
      __m256 m[unit];
      for (int i = 0; i < unit; i++) {
        const T* row = x + (c + i) * layout.channel_stride + column;
        __builtin_prefetch(row + 2 * layout.row_stride);  // a stream a channel is more than the CPU's prefetcher follows
        m[i] = c + i >= channels ? _mm256_setzero_ps()
               : columns == unit ? load8(row)
                                 : load_part(row, columns);
      }
      transpose(m);
      float* to = packed + packed_at<lanes>(c, block_stride) + column * lanes;
      for (int i = 0; i < columns; i++) _mm256_storeu_ps(to + i * lanes, m[i]);
    }
}

template <class T, int lanes>
REPLK_AVX2 void unpack_planes(const RowLayout& layout, const float* packed, std::int64_t block_stride,
                              int channels, T* x) {
  for (int c = 0; c < channels; c += unit)
    for (int column = 0; column < layout.width; column += unit) {
      const int columns = std::min(unit, layout.width - column);
      const float* from = packed + packed_at<lanes>(c, block_stride) + column * lanes;
      __m256 m[unit];
      for (int i = 0; i < unit; i++)
        m[i] = i < columns ? _mm256_loadu_ps(from + i * lanes) : _mm256_setzero_ps();
      transpose(m);
      for (int i = 0; i < std::min(unit, channels - c); i++) {
        T* row = x + (c + i) * layout.channel_stride + column;
        if (columns == unit)
          store8(row, m[i]);
        else
          store_part(row, m[i], columns);
      }
    }
}

template <class T>
void pack_as(const RowLayout& layout, const void* tensor, std::int64_t at, int channels, int lanes,
             float* packed, std::int64_t block_stride) {
  const T* x = static_cast<const T*>(tensor) + at;
  const bool last = layout.channel_stride == 1;
  const auto pack = lanes == 8 ? (last ? pack_channels_last<T, 8> : pack_planes<T, 8>)
                               : (last ? pack_channels_last<T, 16> : pack_planes<T, 16>);
  pack(layout, x, channels, packed, block_stride);
}
template <class T>
void unpack_as(const RowLayout& layout, const float* packed, std::int64_t block_stride, int channels,
               int lanes, void* tensor, std::int64_t at) {
  T* x = static_cast<T*>(tensor) + at;
  const bool last = layout.channel_stride == 1;
  const auto unpack = lanes == 8 ? (last ? unpack_channels_last<T, 8> : unpack_planes<T, 8>)
                                 : (last ? unpack_channels_last<T, 16> : unpack_planes<T, 16>);
  unpack(layout, packed, block_stride, channels, x);
}

}  // namespace

RowLayout RowLayout::of(const Problem& problem, int height, int width) {
  const std::int64_t h = height, w = width, c = problem.channels;
  return problem.layout == Layout::nhwc ? RowLayout{problem.type, h * w * c, w * c, c, 1, width}
                                        : RowLayout{problem.type, h * w * c, w, 1, h * w, width};
}

void pack_row(const RowLayout& layout, const void* tensor, std::int64_t at, int channels, int lanes,
              float* packed, std::int64_t block_stride) {
  switch (layout.type) {
    case DataType::f32:
      return pack_as<float>(layout, tensor, at, channels, lanes, packed, block_stride);
    case DataType::bf16:
      return pack_as<Bf16>(layout, tensor, at, channels, lanes, packed, block_stride);
    case DataType::f16:
      return pack_as<F16>(layout, tensor, at, channels, lanes, packed, block_stride);
  }
}

void unpack_row(const RowLayout& layout, const float* packed, std::int64_t block_stride, int channels,
                int lanes, void* tensor, std::int64_t at) {
  switch (layout.type) {
    case DataType::f32:
      return unpack_as<float>(layout, packed, block_stride, channels, lanes, tensor, at);
    case DataType::bf16:
      return unpack_as<Bf16>(layout, packed, block_stride, channels, lanes, tensor, at);
    case DataType::f16:
      return unpack_as<F16>(layout, packed, block_stride, channels, lanes, tensor, at);
  }
}

}  // namespace replk::depthwise
