#include "dense/operand.hpp"

#include <algorithm>
#include <cstring>

#include "core/half.hpp"
#include "core/quantise.hpp"
#include "simd/dispatch.hpp"

namespace replk::dense {
namespace {

using core::Bf16;

template <class Fma, class To>
REPLK_INLINE void quantise_loop(const float* src, const float* scale, const float* offset, To* dst,
                                std::int64_t count) {
  for (std::int64_t i = 0; i < count; i++) dst[i] = core::quantise(src[i], scale[i], offset[i], Fma());
}

template <class Fma>
REPLK_INLINE void quantise_u8_body(const float* src, const float* scale, const float* offset,
                                   std::uint8_t* __restrict dst, std::int64_t count) {
  quantise_loop<Fma>(src, scale, offset, dst, count);
}
REPLK_DISPATCH(quantise_u8,
               (const float* src, const float* scale, const float* offset, std::uint8_t* __restrict dst,
                std::int64_t count),
               (src, scale, offset, dst, count))

template <class Fma>
REPLK_INLINE void quantise_s16_body(const float* src, const float* scale, const float* offset,
                                    std::int16_t* __restrict dst, std::int64_t count) {
  quantise_loop<Fma>(src, scale, offset, dst, count);
}
REPLK_DISPATCH(quantise_s16,
               (const float* src, const float* scale, const float* offset, std::int16_t* __restrict dst,
                std::int64_t count),
               (src, scale, offset, dst, count))

template <class Fma>
REPLK_INLINE void round_bf16_body(const float* src, Bf16* __restrict dst, std::int64_t count) {
  for (std::int64_t i = 0; i < count; i++) dst[i] = core::from_float<Bf16>(src[i]);
}
REPLK_DISPATCH(round_bf16, (const float* src, Bf16* __restrict dst, std::int64_t count), (src, dst, count))

template <class Fma>
REPLK_INLINE void round_f32_body(const float* src, float* __restrict dst, std::int64_t count) {
  for (std::int64_t i = 0; i < count; i++) dst[i] = core::to_float(core::from_float<Bf16>(src[i]));
}
REPLK_DISPATCH(round_f32, (const float* src, float* __restrict dst, std::int64_t count), (src, dst, count))

template <class Fma>
REPLK_INLINE void widen_u8_body(const std::uint8_t* src, std::int16_t* __restrict dst, std::int64_t count) {
  for (std::int64_t i = 0; i < count; i++) dst[i] = src[i];
}
REPLK_DISPATCH(widen_u8, (const std::uint8_t* src, std::int16_t* __restrict dst, std::int64_t count),
               (src, dst, count))

template <class Fma>
REPLK_INLINE void widen_bf16_body(const Bf16* src, float* __restrict dst, std::int64_t count) {
  for (std::int64_t i = 0; i < count; i++) dst[i] = core::to_float(src[i]);
}
REPLK_DISPATCH(widen_bf16, (const Bf16* src, float* __restrict dst, std::int64_t count), (src, dst, count))

/// The width is a constant, so that a row of a panel is whole vectors and no call.
template <int width>
REPLK_INLINE void split_rows(const std::uint32_t* __restrict pairs, std::int64_t rows,
                             float* __restrict dst) {
  for (std::int64_t r = 0; r < rows; r++, pairs += width, dst += 2 * width)
    for (int i = 0; i < width; i++) {
      dst[i] = std::bit_cast<float>(pairs[i] << 16);
      dst[width + i] = std::bit_cast<float>(pairs[i] & 0xffff0000u);
    }
}

template <class Fma>
REPLK_INLINE void split_pairs_body(const std::uint32_t* pairs, std::int64_t rows, int width, float* dst) {
  if (width == 32)
    split_rows<32>(pairs, rows, dst);
  else
    split_rows<16>(pairs, rows, dst);
}
REPLK_DISPATCH(split_pairs, (const std::uint32_t* pairs, std::int64_t rows, int width, float* dst),
               (pairs, rows, width, dst))

void make_row(Operand operand, ConstValues src, std::int64_t columns, const Quantiser& quantiser, void* dst) {
  const bool given = src.type() != Element::f32;
  const float* const floats = given ? nullptr : src.as<float>();
  switch (operand) {
    case Operand::u8:
      if (given)
        std::memcpy(dst, src.as<std::uint8_t>(), std::size_t(columns));
      else
        quantise_u8(floats, quantiser.scale.data(), quantiser.offset.data(), static_cast<std::uint8_t*>(dst),
                    columns);
      return;
    case Operand::s16:
      if (given)
        widen_u8(src.as<std::uint8_t>(), static_cast<std::int16_t*>(dst), columns);
      else
        quantise_s16(floats, quantiser.scale.data(), quantiser.offset.data(), static_cast<std::int16_t*>(dst),
                     columns);
      return;
    case Operand::bf16:
      if (given)
        std::memcpy(dst, src.as<Bf16>(), std::size_t(columns) * 2);
      else
        round_bf16(floats, static_cast<Bf16*>(dst), columns);
      return;
    case Operand::f32:
      if (given)
        widen_bf16(src.as<Bf16>(), static_cast<float*>(dst), columns);
      else
        round_f32(floats, static_cast<float*>(dst), columns);
  }
}

}  // namespace

void make_operand(Operand operand, ConstValues src, std::int64_t rows, std::int64_t columns,
                  std::int64_t multiple, const Quantiser& quantiser, void* dst, std::int64_t dst_stride) {
  const std::int64_t padding = (multiple - columns % multiple) % multiple;
  auto* to = static_cast<std::byte*>(dst);
  for (std::int64_t r = 0; r < rows; r++) {
    make_row(operand, src + r * columns, columns, quantiser, to);
    std::memset(to + columns * std::int64_t(size_of(operand)), 0, std::size_t(padding) * size_of(operand));
    to += dst_stride;
  }
}

void widen_panel(const void* panel, std::int64_t inputs, int width, float* dst) {
  split_pairs(static_cast<const std::uint32_t*>(panel), inputs / 2, width, dst);
}

}  // namespace replk::dense
