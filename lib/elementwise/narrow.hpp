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

/// Values of channels [first, first + count), count a multiple of a step's channels where dst is in tiles.
template <class Fma>
REPLK_INLINE void narrow_run(const NarrowCopy& copy, const float* values, int first, int count,
                             std::byte* to) {
  const Element type = without_order(copy.dst.type());
  if (type == Element::u8) {
    auto* dst = reinterpret_cast<std::uint8_t*>(to);
    const float *scale = copy.scale + first, *offset = copy.offset + first;
    for (int c = 0; c < count; c++) dst[c] = core::quantise(values[c], scale[c], offset[c], Fma());
    return;
  }
  auto* dst = reinterpret_cast<core::Bf16*>(to);
  for (int c = 0; c < count; c++) dst[c] = core::from_float<core::Bf16>(values[c]);
  if (type != Element::bf16x2_tiles) return;
  auto* low = dst + core::TileOrder::line / std::int64_t{sizeof(core::Bf16)};
  for (int c = 0; c < count; c++) low[c] = core::from_float<core::Bf16>(values[c] - core::to_float(dst[c]));
}

/// values: `count` results of the channels from `first` on, of row `row` of `channels`.
template <class Fma>
REPLK_INLINE void narrow(const NarrowCopy& copy, const float* values, std::int64_t row, int channels,
                         int first, int count) {
  if (!copy.order)
    return narrow_run<Fma>(copy, values, first, count, (copy.dst + (row * channels + first)).bytes());
  const int step = core::TileOrder::step_channels(copy.dst.type());
  std::byte* to = copy.dst.bytes() + copy.order->offset(row, first);
  for (int c = 0; c < count; c += step, to += copy.order->step_bytes())
    narrow_run<Fma>(copy, values + c, first + c, step, to);
}

}  // namespace replk::elementwise
