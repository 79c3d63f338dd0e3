// The pass that makes a product's operand from what a layer is given. Inside the box only.
#pragma once
#include <cstddef>
#include <cstdint>

#include "core/types.hpp"
#include "dense/dense.hpp"

namespace replk::dense {

/// What a product's multiply-adds read: u8, or the same in 16 bits; bf16, or the same in 32 bits.
enum class Operand { u8, s16, bf16, f32 };
constexpr std::size_t size_of(Operand operand) {
  return operand == Operand::f32 ? 4 : operand == Operand::u8 ? 1 : 2;
}

/// dst[rows][columns rounded up to `multiple`], rows dst_stride bytes apart, of src[rows][columns]: quantised
/// (where src is f32 and the operand u8 or s16, by `quantiser`), rounded, widened or copied; zeros behind the
/// columns. Reads src and nothing behind it.
void make_operand(Operand operand, ConstValues src, std::int64_t rows, std::int64_t columns,
                  std::int64_t multiple, const Quantiser& quantiser, void* dst, std::int64_t dst_stride);

/// A panel of bf16 pairs [inputs / 2][width][2] as floats, [inputs][width]. inputs is even, width 16 or 32.
void widen_panel(const void* panel, std::int64_t inputs, int width, float* dst);

}  // namespace replk::dense
