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

/// Rows of some channels of a tensor: `at` is the element that the first row of the first channel begins at.
struct TensorRows {
  std::int64_t at;
  int channels, count = 1;
  int first_channel = 0;  // of which layout.repeat needs to know
};
/// How packed rows lie: blocks of `lanes` channels (8 or 16), strides in floats.
struct PackedRows {
  int lanes;
  std::int64_t block_stride = 0, row_stride = 0;
};

/// Copies rows of a tensor to packed blocks. Lanes past the last channel become zero. Nothing outside the
/// rows' elements is read. Needs AVX2 and F16C; blocks of 16 lanes need AVX-512.
void pack_rows(const RowLayout& layout, const void* tensor, const TensorRows& rows, float* packed,
               const PackedRows& as);
/// The other way, narrowing to nearest even.
void unpack_rows(const RowLayout& layout, const float* packed, const PackedRows& as, void* tensor,
                 const TensorRows& rows);

/// Prefetches the lines that unpack_rows() of planes will write: each of its short stores would wait for a
/// line of its own. Nothing for channels-last, whose stores take whole lines.
void expect_rows(const RowLayout& layout, const void* tensor, const TensorRows& rows);

}  // namespace replk::simd
