#include "simd/rows.hpp"

#include <immintrin.h>

#include <algorithm>
#include <utility>

#include "core/half.hpp"
#include "core/memory.hpp"

// Compiled for AVX2 and F16C whatever the flags; callers run it only where the CPU has them.
#define REPLK_AVX2 [[gnu::target("avx2,fma,f16c")]]
#define REPLK_AVX2_INLINE [[gnu::target("avx2,fma,f16c"), gnu::always_inline]] inline
// Blocks of 16 lanes are AVX-512's.
#define REPLK_AVX512 [[gnu::target("avx512f,avx512dq,fma,f16c")]]

namespace replk::simd {
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

REPLK_AVX2_INLINE __m256 load8(const std::uint8_t* x) {
  return _mm256_cvtepi32_ps(_mm256_cvtepu8_epi32(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(x))));
}

REPLK_AVX2_INLINE __m128 load4(const float* x) {
  return _mm_loadu_ps(x);
}
REPLK_AVX2_INLINE __m128 load4(const Bf16* x) {
  const __m128i bits = _mm_loadl_epi64(reinterpret_cast<const __m128i*>(x));
  return _mm_castsi128_ps(_mm_unpacklo_epi16(_mm_setzero_si128(), bits));
}
REPLK_AVX2_INLINE __m128 load4(const F16* x) {
  return _mm_cvtph_ps(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(x)));
}

REPLK_AVX2_INLINE __m128 load4(const std::uint8_t* x) {
  return _mm_cvtepi32_ps(_mm_cvtepu8_epi32(_mm_loadu_si32(x)));
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

REPLK_AVX2_INLINE void store8(std::uint8_t* x, __m256 v) {
  const __m256 positive = _mm256_max_ps(v, _mm256_setzero_ps());  // a NaN becomes the second operand
  const __m256i rounded = _mm256_cvtps_epi32(_mm256_min_ps(positive, _mm256_set1_ps(255)));
  const __m128i words =
      _mm_packus_epi32(_mm256_castsi256_si128(rounded), _mm256_extracti128_si256(rounded, 1));
  _mm_storel_epi64(reinterpret_cast<__m128i*>(x), _mm_packus_epi16(words, words));
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
  return _mm256_maskload_ps(x,
                            _mm256_cmpgt_epi32(_mm256_set1_epi32(count), lane));  // masked lanes cannot fault
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

/// Halves of 4 x 4 in place: m[i] becomes the i-th elements of the four vectors m[0..3], in either half.
REPLK_AVX2_INLINE void transpose_halves(__m256* m) {
  const __m256 a = _mm256_unpacklo_ps(m[0], m[1]), b = _mm256_unpackhi_ps(m[0], m[1]);
  const __m256 c = _mm256_unpacklo_ps(m[2], m[3]), d = _mm256_unpackhi_ps(m[2], m[3]);
  m[0] = _mm256_shuffle_ps(a, c, 0x44);
  m[1] = _mm256_shuffle_ps(a, c, 0xee);
  m[2] = _mm256_shuffle_ps(b, d, 0x44);
  m[3] = _mm256_shuffle_ps(b, d, 0xee);
}

/// The transpose of 8 x 8 elements whose rows lie `stride` apart.
template <class T>
REPLK_AVX2_INLINE void load_tile(const T* x, std::int64_t stride, __m256 (&m)[unit]) {
  // Rows i and i + 4 meet in one register as they are loaded, which leaves no exchange of halves to do
  // afterwards.
  for (int half = 0; half < 2; half++)
    for (int i = 0; i < 4; i++)
      m[4 * half + i] = _mm256_insertf128_ps(_mm256_castps128_ps256(load4(x + i * stride + 4 * half)),
                                             load4(x + (i + 4) * stride + 4 * half), 1);
  transpose_halves(m);
  transpose_halves(m + 4);
}

/// 8 x 8 elements from rows x_stride apart to columns y_stride apart.
template <class T, class U>
REPLK_AVX2_INLINE void transpose_tile(const T* x, std::int64_t x_stride, U* y, std::int64_t y_stride) {
  __m256 m[unit];
  load_tile(x, x_stride, m);
  for (int i = 0; i < unit; i++) store8(y + i * y_stride, m[i]);
}

/// The same of `rows` x `columns`. Eight elements of each column are written where `whole` says so, zeros for
/// missing rows.
template <class T, class U>
REPLK_AVX2 void transpose_part(const T* x, std::int64_t x_stride, int rows, int columns, U* y,
                               std::int64_t y_stride, bool whole) {
  alignas(32) float tile[unit * unit];
  for (int i = 0; i < unit; i++)
    _mm256_store_ps(tile + i * unit, i < rows ? load_part(x + i * x_stride, columns) : _mm256_setzero_ps());
  __m256 m[unit];
  load_tile(tile, unit, m);
  for (int i = 0; i < columns; i++)
    whole || rows == unit ? store8(y + i * y_stride, m[i]) : store_part(y + i * y_stride, m[i], rows);
}

/// Where the unit of 8 channels that begins at `channel` lies in a packed row. (The lanes are a template's: a
/// division for each unit takes longer than moving it.)
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
    // The next row is packed next, and its lines are too far apart for the CPU's own prefetcher. (A prefetch
    // outside the tensor is harmless.)
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

// NCHW: 8 channels x 8 columns are transposed in registers. The last columns go with some before them for a
// second time, which takes less than a part of a tile.

/// 4 columns x 16 channels, to vectors `step` floats apart. Each column is written as the vector that the row
/// pass will read: the store queue cannot put one together from two halves, and the load would wait until
/// both have left it.
template <int step, class T>
REPLK_AVX512 inline void pack_columns(const T* x, std::int64_t plane, float* y) {
  __m512 m[4];
  for (int i = 0; i < 4; i++) {  // channels i, i + 4, i + 8 and i + 12 meet in one register
    m[i] = _mm512_zextps128_ps512(load4(x + i * plane));
    m[i] = _mm512_mask_broadcast_f32x4(m[i], 0x00f0, load4(x + (i + 4) * plane));
    m[i] = _mm512_mask_broadcast_f32x4(m[i], 0x0f00, load4(x + (i + 8) * plane));
    m[i] = _mm512_mask_broadcast_f32x4(m[i], 0xf000, load4(x + (i + 12) * plane));
  }
  // Masks of all lanes: GCC 12 warns of its own unmasked intrinsics.
  constexpr __mmask16 all = 0xffff;
  const __m512 a = _mm512_maskz_unpacklo_ps(all, m[0], m[1]), b = _mm512_maskz_unpackhi_ps(all, m[0], m[1]);
  const __m512 c = _mm512_maskz_unpacklo_ps(all, m[2], m[3]), d = _mm512_maskz_unpackhi_ps(all, m[2], m[3]);
  _mm512_storeu_ps(y, _mm512_shuffle_ps(a, c, 0x44));
  _mm512_storeu_ps(y + step, _mm512_shuffle_ps(a, c, 0xee));
  _mm512_storeu_ps(y + 2 * step, _mm512_shuffle_ps(b, d, 0x44));
  _mm512_storeu_ps(y + 3 * step, _mm512_shuffle_ps(b, d, 0xee));
}

/// Whole blocks of 16 lanes, rows of at least 4 columns; gives the number of channels done. As pack_planes()
/// has them, x is the first column in memory, and `packed` where its vector goes, `step` before the next.
template <int step, class T>
REPLK_AVX512 int pack_whole_blocks(const RowLayout& layout, const T* x, int channels, float* packed,
                                   std::int64_t block_stride) {
  const std::int64_t plane = layout.channel_stride;
  const int width = layout.width, last = width - 4;
  int c = 0;
  for (; c + 16 <= channels; c += 16, packed += block_stride) {
    const T* from = x + c * plane;
    for (int i = 0; i + 4 <= width; i += 4) pack_columns<step>(from + i, plane, packed + i * step);
    if (width % 4) pack_columns<step>(from + last, plane, packed + last * step);
  }
  return c;
}

template <class T, int lanes>
REPLK_AVX2 void pack_planes(const RowLayout& layout, const T* x, int channels, float* packed,
                            std::int64_t block_stride) {
  const std::int64_t plane = layout.channel_stride;
  const int padded = (channels + lanes - 1) / lanes * lanes, width = layout.width;
  std::int64_t step = lanes;
  if (layout.pixel_stride < 0) {  // as the row lies in memory, but to the end first
    x -= width - 1;
    packed += std::int64_t{width - 1} * lanes;
    step = -lanes;
  }
  int c = 0;
  if (lanes == 16 && width >= 4)
    c = step > 0 ? pack_whole_blocks<16>(layout, x, channels, packed, block_stride)
                 : pack_whole_blocks<-16>(layout, x, channels, packed, block_stride);
  for (; c < padded; c += unit) {
    const T* from = x + c * plane;
    float* to = packed + packed_at<lanes>(c, block_stride);
    if (channels - c >= unit && width >= unit) {
      for (int i = 0; i + unit <= width; i += unit) transpose_tile(from + i, plane, to + i * step, step);
      const int last = width - unit;
      if (width % unit) transpose_tile(from + last, plane, to + last * step, step);
      continue;
    }
    const int rows = std::clamp(channels - c, 0, unit);
    for (int i = 0; i < width; i += unit)
      transpose_part(from + i, plane, rows, std::min(unit, width - i), to + i * step, step, true);
  }
}

template <class T, int lanes>
REPLK_AVX2 void unpack_planes(const RowLayout& layout, const float* packed, std::int64_t block_stride,
                              int channels, T* x) {
  const std::int64_t plane = layout.channel_stride;
  const int width = layout.width;
  for (int c = 0; c < channels; c += unit) {
    const float* from = packed + packed_at<lanes>(c, block_stride);
    T* to = x + c * plane;
    if (channels - c >= unit && width >= unit) {
      for (int i = 0; i + unit <= width; i += unit) transpose_tile(from + i * lanes, lanes, to + i, plane);
      const int last = width - unit;
      if (width % unit) transpose_tile(from + last * lanes, lanes, to + last, plane);
      continue;
    }
    const int rows = std::min(channels - c, unit);
    for (int i = 0; i < width; i += unit)
      transpose_part(from + i * lanes, lanes, std::min(unit, width - i), rows, to + i, plane, false);
  }
}

/// Where several channels are one of the tensor's.
template <class T>
void pack_repeated(const RowLayout& layout, const T* x, const TensorRows& rows, float* packed,
                   const PackedRows& as) {
  const int begun = rows.first_channel % layout.repeat;  // of the first one's group, which x points to
  for (int c = 0; c < rows.channels; c += as.lanes, packed += as.block_stride)
    for (int column = 0; column < layout.width; column++)
      for (int l = 0; l < as.lanes; l++)
        packed[column * as.lanes + l] =
            c + l < rows.channels ? core::to_float(x[column * layout.pixel_stride +
                                                     (begun + c + l) / layout.repeat * layout.channel_stride])
                                  : 0.0f;
}

/// One row, whose first element x points to.
template <class T>
void pack_row(const RowLayout& layout, const T* x, const TensorRows& rows, float* packed,
              const PackedRows& as) {
  if (layout.repeat > 1) return pack_repeated(layout, x, rows, packed, as);
  const bool last = layout.channel_stride == 1;
  const auto pack = as.lanes == 8 ? (last ? pack_channels_last<T, 8> : pack_planes<T, 8>)
                                  : (last ? pack_channels_last<T, 16> : pack_planes<T, 16>);
  pack(layout, x, rows.channels, packed, as.block_stride);
}
template <class T>
void unpack_row(const RowLayout& layout, const float* packed, const PackedRows& as, T* x, int channels) {
  const bool last = layout.channel_stride == 1;
  const auto unpack = as.lanes == 8 ? (last ? unpack_channels_last<T, 8> : unpack_planes<T, 8>)
                                    : (last ? unpack_channels_last<T, 16> : unpack_planes<T, 16>);
  unpack(layout, packed, as.block_stride, channels, x);
}

/// Prefetches bytes that will be written. (Not __builtin_prefetch: GCC drops calls of a function that does
/// nothing else.)
void expect(const char* begin, std::int64_t bytes) {
  for (std::int64_t i = 0; i < bytes; i += core::alignment) asm volatile("prefetchw %0" ::"m"(begin[i]));
  asm volatile("prefetchw %0" ::"m"(begin[bytes - 1]));
}

/// Rows that follow each other without a gap in the tensor and in the packed block are one long row: a small
/// map of NCHW has hardly any whole tile in a row.
bool one_row(const RowLayout& layout, const PackedRows& as) {
  return layout.pixel_stride == 1 && layout.row_stride == layout.width &&
         as.row_stride == std::int64_t{layout.width} * as.lanes;
}

}  // namespace

void pack_rows(const RowLayout& layout, const void* tensor, const TensorRows& rows, float* packed,
               const PackedRows& as) {
  RowLayout run = layout;
  int count = rows.count;
  if (one_row(layout, as)) run.width *= std::exchange(count, 1);
  core::with_type(layout.type, [&](auto type) {
    const auto* x = static_cast<const decltype(type)*>(tensor) + rows.at;
    for (int r = 0; r < count; r++)
      pack_row(run, x + r * layout.row_stride, rows, packed + r * as.row_stride, as);
  });
}

void expect_rows(const RowLayout& layout, const void* tensor, const TensorRows& rows) {
  if (layout.channel_stride == 1) return;
  const std::int64_t size = static_cast<std::int64_t>(size_of(layout.type));
  const char* begin = static_cast<const char*>(tensor) + rows.at * size;
  // Rows of one channel are one run where nothing lies between them, and so are whole channels.
  std::int64_t run = layout.width;
  int count = rows.count, channels = rows.channels;
  if (run == layout.row_stride) run *= std::exchange(count, 1);
  if (run == layout.channel_stride) run *= std::exchange(channels, 1);
  for (int c = 0; c < channels; c++)
    for (int r = 0; r < count; r++)
      expect(begin + (c * layout.channel_stride + r * layout.row_stride) * size, run * size);
}

void unpack_rows(const RowLayout& layout, const float* packed, const PackedRows& as, void* tensor,
                 const TensorRows& rows) {
  RowLayout run = layout;
  int count = rows.count;
  if (one_row(layout, as)) run.width *= std::exchange(count, 1);
  core::with_type(layout.type, [&](auto type) {
    auto* x = static_cast<decltype(type)*>(tensor) + rows.at;
    for (int r = 0; r < count; r++)
      unpack_row(run, packed + r * as.row_stride, as, x + r * layout.row_stride, rows.channels);
  });
}

}  // namespace replk::simd
