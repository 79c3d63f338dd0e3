// Words that every box uses.
#pragma once
#include <cstddef>
#include <cstdint>

namespace replk {

enum class Layout { nhwc, nchw };
enum class DataType { f32, bf16, f16 };
enum class Activation { none, relu, gelu };  // gelu is the exact (erf) form

enum class Precision { fp32, bf16, bf16x3, int8 };
enum class Element { f32, bf16, u8 };

constexpr std::size_t size_of(DataType type) {
  return type == DataType::f32 ? 4 : 2;
}

}  // namespace replk
