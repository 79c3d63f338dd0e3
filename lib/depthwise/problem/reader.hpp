// One element of a tensor at a time: for what is written for clarity.
#pragma once
#include <cstdint>

#include "core/half.hpp"
#include "core/types.hpp"
#include "depthwise/problem/problem.hpp"

namespace replk::depthwise {

/// Reads elements of a tensor in any layout and type.
class Reader {
 public:
  Reader(DataType type, const Strides& strides, const void* data)
      : type_(type), strides_(strides), data_(data) {}

  float operator()(std::int64_t image, int channel, int row, int column) const {
    const std::int64_t at =
        image * strides_.image + row * strides_.row + column * strides_.pixel + channel * strides_.channel;
    switch (type_) {
      case DataType::f32:
        return static_cast<const float*>(data_)[at];
      case DataType::bf16:
        return core::to_float(static_cast<const core::Bf16*>(data_)[at]);
      case DataType::f16:
        return core::to_float(static_cast<const core::F16*>(data_)[at]);
      case DataType::u8:
        return static_cast<const std::uint8_t*>(data_)[at];
    }
    return 0;
  }

 private:
  DataType type_;
  Strides strides_;
  const void* data_;
};

}  // namespace replk::depthwise
