// Makes rows of a tile product's operand, in its order (core/tile_order.hpp): of fp32, which is rounded to
// its type, or of rows of its type.
#pragma once
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "core/features.hpp"
#include "core/types.hpp"
#include "jit/x64/code.hpp"

namespace replk::jit {

struct TileOperandSpec {
  Precision precision = Precision::bf16;  // bf16, int8 or bf16x3
  bool from_fp32 = true;                  // or from the operand's own type, bf16 or u8
  int inputs = 1;
  bool native_bf16 = true;

  std::string text() const;
  /// Between them every branch of the generator (samples.hpp).
  static std::vector<TileOperandSpec> samples(Features features);
};

/// Every row: whole steps (tile_product.hpp), zeros behind the inputs. Nothing behind a source's row is read.
struct TileOperandArguments {
  const void* src;
  void* dst;
  std::int64_t rows, src_stride, dst_stride;  // at least 1; bytes
  std::int64_t dst_step;                      // bytes from a row's step to its next one
  const float *scale, *offset;                // [inputs], of fp32 to u8
};
using TileOperandKernel = void (*)(const TileOperandArguments*);

std::vector<std::uint8_t> generate(const TileOperandSpec& spec);
std::shared_ptr<const Code> tile_operand_code(const TileOperandSpec& spec);

}  // namespace replk::jit
