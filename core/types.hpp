// Words that every box uses.
#pragma once
#include <cstddef>
#include <cstdint>
#include <string_view>

namespace replk {

enum class Layout { nhwc, nchw };
/// Of a tensor in memory. u8: integers from 0 to 255; what is stored is rounded to nearest even and clamped,
/// a NaN becomes 0.
enum class DataType { f32, bf16, f16, u8 };
/// gelu is the exact (erf) form; silu is x / (1 + exp(-x)), hard_swish x * min(max(x / 6 + 1/2, 0), 1). Dense
/// layers have neither of the last two.
enum class Activation { none, relu, gelu, silu, hard_swish };

/// What pointwise and dense layers multiply in: fp32; bf16 operands with fp32 sums; three such products a
/// multiply (AMX alone); u8 times s8 with int32 sums.
enum class Precision { fp32, bf16, bf16x3, int8 };
/// Of a tensor between layers. Those in tiles lie as AMX products read them (core/tile_order.hpp); a value of
/// bf16x2_tiles is the sum of two bf16.
enum class Element { f32, bf16, u8, bf16_tiles, u8_tiles, bf16x2_tiles };
constexpr bool in_tiles(Element element) {
  return element >= Element::bf16_tiles;
}
/// What each value is, whatever their order.
constexpr Element without_order(Element element) {
  return element == Element::bf16_tiles ? Element::bf16
         : element == Element::u8_tiles ? Element::u8
                                        : element;
}

constexpr std::string_view name(DataType type) {
  constexpr std::string_view names[] = {"f32", "bf16", "f16", "u8"};
  return names[static_cast<int>(type)];
}
constexpr std::string_view name(Precision precision) {
  constexpr std::string_view names[] = {"fp32", "bf16", "bf16x3", "int8"};
  return names[static_cast<int>(precision)];
}
constexpr std::string_view name(Element element) {
  constexpr std::string_view names[] = {"f32", "bf16", "u8", "bf16_tiles", "u8_tiles", "bf16x2_tiles"};
  return names[static_cast<int>(element)];
}

constexpr std::size_t size_of(Element element) {
  constexpr std::size_t sizes[] = {4, 2, 1, 2, 1, 4};
  return sizes[static_cast<int>(element)];
}
constexpr std::size_t size_of(DataType type) {
  constexpr std::size_t sizes[] = {4, 2, 2, 1};
  return sizes[static_cast<int>(type)];
}

}  // namespace replk
