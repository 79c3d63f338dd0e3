// Words that every box uses.
#pragma once
#include <cstddef>
#include <cstdint>

namespace replk {

enum class Layout { nhwc, nchw };
enum class DataType { f32, bf16, f16 };
/// gelu is the exact (erf) form; silu is x / (1 + exp(-x)), hard_swish x * min(max(x / 6 + 1/2, 0), 1). The
/// last two are depthwise layers' alone.
enum class Activation { none, relu, gelu, silu, hard_swish };

constexpr std::size_t size_of(DataType type) {
  return type == DataType::f32 ? 4 : 2;
}

}  // namespace replk
