// Rows of a tensor in any layout and type, to and from a buffer of fp32 channel vectors:
// [pixels][blocks][lanes].
#pragma once
#include <cstdint>

#include "core/types.hpp"
#include "depthwise/problem.hpp"

namespace replk::depthwise {

/// Some pixels of a row (or column) of one image, some channels of each.
struct RowView {
  Layout layout = Layout::nhwc;
  DataType type = DataType::f32;
  std::int64_t first = 0;               // element of the first pixel's first channel
  std::int64_t pixel = 0, channel = 0;  // elements between neighbours
  int pixels = 0, channels = 0;
};

/// Lanes beyond the row's channels become zero.
void load_row(const RowView& row, const void* tensor, int stride, float* buffer);

/// Activation, then the residual (its row lies as dst's; null for none), then rounding to the type.
void store_row(const RowView& row, const float* buffer, int stride, Activation activation,
               const void* residual, void* dst);

}  // namespace replk::depthwise
