// Rows of a tensor, in any layout and storage type, to and from packed fp32 channel vectors:
// [block][column][lane].
#pragma once
#include <cstdint>

#include "core/types.hpp"

namespace replk::simd {

/// How rows lie in a tensor. Strides are in elements. Of one of them, the pixels' and the channels', one is
/// 1; to pack planes, that of the pixels may be -1 as well: a row is read backwards.
struct RowLayout {
  DataType type;
  std::int64_t image_stride, row_stride, pixel_stride, channel_stride;
  int width;
  int repeat =
      1;  // channels, as they are counted here, that are one of the tensor's (the channel multiplier)

  std::int64_t at(std::int64_t image, std::int64_t row, std::int64_t channel, std::int64_t column = 0) const {
    return image * image_stride + row * row_stride + channel / repeat * channel_stride +
           column * pixel_stride;
  }
};

/// Copies one row of `channels` channels, from the element offset `at` of `tensor`, to packed blocks of
/// `lanes` floats (8 or 16) that lie `block_stride` floats apart. Lanes past the last channel become zero.
/// Nothing outside the row's elements is read. channel: the first one, of which layout.repeat needs to know.
/// Needs AVX2 and F16C; blocks of 16 lanes need AVX-512.
void pack_row(const RowLayout& layout, const void* tensor, std::int64_t at, int channels, int lanes,
              float* packed, std::int64_t block_stride, int channel = 0);
/// The other way, narrowing to nearest even.
void unpack_row(const RowLayout& layout, const float* packed, std::int64_t block_stride, int channels,
                int lanes, void* tensor, std::int64_t at);

/// The same of `count` rows, which lie row_stride floats apart in a packed block.
void pack_rows(const RowLayout& layout, int count, const void* tensor, std::int64_t at, int channels,
               int lanes, float* packed, std::int64_t row_stride, std::int64_t block_stride, int channel = 0);
void unpack_rows(const RowLayout& layout, int count, const float* packed, std::int64_t row_stride,
                 std::int64_t block_stride, int channels, int lanes, void* tensor, std::int64_t at);

/// Prefetches the lines that unpack_rows() of planes will write: each of its short stores would wait for a
/// line of its own. Nothing for channels-last, whose stores take whole lines.
void expect_rows(const RowLayout& layout, int count, const void* tensor, std::int64_t at, int channels);

}  // namespace replk::simd
