// bfloat16, IEEE half precision and bytes as storage: exact widening, narrowing to nearest even. Branch-free
// where it matters, so that loops over them vectorise; the results are those of vcvtph2ps, vcvtps2ph and
// vcvtneps2bf16 (denormals kept).
#pragma once
#include <bit>
#include <cstdint>

#include "core/types.hpp"

namespace replk::core {

/// Storage words, apart from plain integers so that loads and stores can be overloaded on them.
struct Bf16 {
  std::uint16_t bits;
};
struct F16 {
  std::uint16_t bits;
};

inline float to_float(float value) {
  return value;
}

inline float to_float(Bf16 value) {
  return std::bit_cast<float>(static_cast<std::uint32_t>(value.bits) << 16);
}

inline float to_float(F16 value) {
  const std::uint32_t magnitude = value.bits & 0x7fffu,
                      sign = static_cast<std::uint32_t>(value.bits & 0x8000u) << 16;
  // The exponent is rebiased by an exact product, which also normalises denormals.
  const std::uint32_t scaled = std::bit_cast<std::uint32_t>(std::bit_cast<float>(magnitude << 13) * 0x1p112f);
  return std::bit_cast<float>(sign | (magnitude >= 0x7c00u ? magnitude << 13 | 0x7f800000u : scaled));
}

inline float to_float(std::uint8_t value) {
  return value;
}

template <class T>
T from_float(float value);

template <>
inline float from_float<float>(float value) {
  return value;
}

template <>
inline Bf16 from_float<Bf16>(float value) {
  const auto bits = std::bit_cast<std::uint32_t>(value);
  const std::uint32_t rounded = (bits + 0x7fffu + (bits >> 16 & 1)) >> 16;
  const std::uint32_t quiet = bits >> 16 | 0x40u;  // rounding could carry a NaN's payload into infinity
  return {static_cast<std::uint16_t>((bits & 0x7fffffffu) > 0x7f800000u ? quiet : rounded)};
}

template <>
inline F16 from_float<F16>(float value) {
  const auto bits = std::bit_cast<std::uint32_t>(value);
  const std::uint32_t magnitude = bits & 0x7fffffffu, sign = bits >> 16 & 0x8000u;
  // Normal: round the 13 dropped bits to nearest even, then rebias. Below 2^-14: adding 0.5 aligns the
  // mantissa so that the addition itself rounds to a multiple of 2^-24, half's smallest step.
  const std::uint32_t normal = (magnitude + 0xfffu + (magnitude >> 13 & 1) - 0x38000000u) >> 13;
  const std::uint32_t small =
      std::bit_cast<std::uint32_t>(std::bit_cast<float>(magnitude) + 0.5f) - 0x3f000000u;
  std::uint32_t half = magnitude < 0x38800000u ? small : normal;
  half = magnitude >= 0x477ff000u ? 0x7c00u : half;                              // rounds past 65504
  half = magnitude > 0x7f800000u ? 0x7e00u | (magnitude >> 13 & 0x3ffu) : half;  // NaN
  return {static_cast<std::uint16_t>(sign | half)};
}

template <>
inline std::uint8_t from_float<std::uint8_t>(float value) {
  const float positive = value > 0 ? value : 0;  // not a NaN either
  const float clamped = positive < 255 ? positive : 255;
  // In 2^23 to 2^24 floats are integers: the sum rounds, and its lowest byte is the result.
  return static_cast<std::uint8_t>(std::bit_cast<std::uint32_t>(clamped + 0x1p23f));
}

/// Calls function(T{}) with the type that stores such values.
template <class Function>
void with_type(DataType type, const Function& function) {
  switch (type) {
    case DataType::f32:
      return function(float{});
    case DataType::bf16:
      return function(Bf16{});
    case DataType::f16:
      return function(F16{});
    case DataType::u8:
      return function(std::uint8_t{});
  }
}

}  // namespace replk::core
