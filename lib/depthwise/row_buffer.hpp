// Rows and columns of a tensor, in any layout and type, to and from packed fp32 channel vectors:
// [block][pixel][lane].
#pragma once
#include <cstdint>

#include "depthwise/rows.hpp"

namespace replk::depthwise {

/// As pack_row() and unpack_row(), which they call where they can, for any pixel stride: columns of NCHW as
/// well.
void load_row(const RowLayout& layout, const void* tensor, std::int64_t at, int channels, int lanes,
              float* packed, std::int64_t block_stride);
void store_row(const RowLayout& layout, const float* packed, std::int64_t block_stride, int channels,
               int lanes, void* tensor, std::int64_t at);

/// x = gelu(x), plus the residual where it is not null. count is a multiple of 8. Needs AVX2 and FMA.
void apply_gelu(float* x, const float* residual, std::int64_t count);

}  // namespace replk::depthwise
