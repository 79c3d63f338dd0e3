// Words that every box uses.
#pragma once
#include <cstddef>
#include <cstdint>

namespace replk {

enum class Layout { nhwc, nchw };
enum class DataType { f32, bf16, f16 };
enum class Activation { none, relu, gelu };  // gelu is the exact (erf) form

constexpr std::size_t size_of(DataType type) {
  return type == DataType::f32 ? 4 : 2;
}

}  // namespace replk
