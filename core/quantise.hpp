// The one formula by which a value becomes a u8 operand, wherever that is done: generated code gives the same
// bits.
#pragma once
#include <bit>
#include <cstdint>

#include "core/gelu.hpp"

namespace replk::core {

/// clamp(round to nearest even(x * scale + offset), 0, 255); a NaN becomes 0. `fma` is any function with
/// std::fma's result. Branch-free, so that loops over it vectorise.
template <class Fma>
inline std::uint8_t quantise(float x, float scale, float offset, Fma fma) {
  const float clamped = min_second(max_second(fma(x, scale, offset), 0.0f), 255.0f);
  // In 2^23 to 2^24 floats are integers: the sum rounds, and its lowest byte is the result.
  return static_cast<std::uint8_t>(std::bit_cast<std::uint32_t>(clamped + 0x1.8p23f));
}

}  // namespace replk::core
