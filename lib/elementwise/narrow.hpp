// Narrowing a piece of a row on its way out. Inside the box only.
#pragma once
#include <cstring>

#include "core/half.hpp"
#include "core/quantise.hpp"
#include "elementwise/elementwise.hpp"
#include "simd/dispatch.hpp"

namespace replk::elementwise {

/// What rows are computed in before they are narrowed: a piece that stays in registers and the first cache.
constexpr int narrow_piece = 256;

/// values: `count` results of the channels from `first` on, of row `row` of `channels`.
template <class Fma>
REPLK_INLINE void narrow(const NarrowCopy& copy, const float* values, std::int64_t row, int channels,
                         int first, int count) {
  const std::int64_t at = row * channels + first;
  if (copy.dst.type() == Element::u8) {
    auto* dst = copy.dst.as<std::uint8_t>() + at;
    const float *scale = copy.scale + first, *offset = copy.offset + first;
    for (int c = 0; c < count; c++) dst[c] = core::quantise(values[c], scale[c], offset[c], Fma());
  } else {
    auto* dst = copy.dst.as<core::Bf16>() + at;
    for (int c = 0; c < count; c++) dst[c] = core::from_float<core::Bf16>(values[c]);
  }
}

}  // namespace replk::elementwise
