// The inner kernel of a matrix product by AMX tiles: a block of up to 32 rows by 32 outputs, and
// meanwhile what becomes of the block before.
#pragma once
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "core/features.hpp"
#include "core/types.hpp"
#include "jit/x64/code.hpp"

namespace replk::jit {

constexpr int tile_rows = 16;        // of a tile, at most
constexpr int tile_line = 64;        // bytes of a tile's row
constexpr int tile_panel = 32;       // outputs of a block: two tiles side by side
constexpr int tile_block_rows = 32;  // rows of a block, at most: two tiles below each other
constexpr int tile_sums_line = 128;  // bytes of a row of a block's sums: tile_panel floats or int32
/// Bytes of a row of weights, those of tile_panel outputs for a word of inputs; of what a step multiplies.
constexpr int tile_weights_line = 128;
constexpr int tile_step_weight_bytes = tile_rows * tile_weights_line;

/// Inputs that one step multiplies: a line of the operand's row (bf16x3: a line of high parts, then one of
/// low).
constexpr int tile_step(Precision precision) {
  return precision == Precision::int8 ? 64 : 32;
}
/// Bytes that a step takes from a row of the operand.
constexpr int tile_step_bytes(Precision precision) {
  return precision == Precision::bf16x3 ? 2 * tile_line : tile_line;
}

struct TileProductSpec {
  Precision precision = Precision::bf16;  // bf16, int8 or bf16x3
  // Of the block before:
  int rows_per_step = 1;  // rows that are finished beside each step
  Activation activation = Activation::none;
  bool residual = false;        // added behind the activation
  bool result = true;           // stored in fp32
  Element copy = Element::f32;  // f32: none, bf16, u8 or bf16x2_tiles; orders are strides
  bool native_bf16 = true;      // whether AVX512_BF16 rounds the copy
  int prefetch_lines = 1;       // of what comes next, a step

  std::string text() const;
  /// Between them every branch of the generator (samples.hpp).
  static std::vector<TileProductSpec> samples(Features features);
};

/// One run. The block's sums: sums[r][o] += sum over k of a[r][k] * weights[k][o], in int32 (int8) or fp32.
/// The block before ("done"): y = sums + bias (int8: fma(sums, multiplier, bias)), activation, residual; dst
/// = y, copy = its narrow form.
struct TileProductArguments {
  // The operand of the two tiles, rows of tile_step_bytes one behind the other, and from there to that of the
  // next step.
  const void *a0, *a1;
  std::int64_t a_step;
  // Two tiles of weights side by side, a step's below the last one's: tile_rows rows of tile_panel outputs by
  // a word of inputs, 2 (bf16) or 4 (int8) of them. bf16x3: high parts; the low ones lie `low_weights` bytes
  // behind.
  const void* weights;
  std::int64_t low_weights;
  void *sums0, *sums1;  // rows of tile_sums_line bytes. Null sums0: there is no block, only one before
  std::int64_t first;   // 1: sums start from 0; 0: they go on, a part of the depth being there

  const void* done;       // sums of the block before, its first row that matters
  float* dst;             // rows below; null where there is no result
  const float* residual;  // rows like dst's
  void* copy;             // bf16x2: a line of high parts, then one of low parts, of whole panels
  std::int64_t dst_stride, copy_stride;  // bytes
  const float *multiplier, *bias;        // [tile_panel], multiplier of int8
  const float *scale, *offset;           // [tile_panel], of a copy in u8
  std::uint64_t columns;                 // bit o: whether column o is stored

  // Steps beside each of which rows_per_step rows are finished; rows alone; steps alone.
  std::int64_t both, rows, steps;

  const void* prefetch;  // prefetched, prefetch_lines each step, never read; advances by so many bytes
  std::int64_t prefetch_advance;
  const void* later;  // the same for another layer's weights: one line each step; where it ends is left here
  std::int64_t later_advance;
};
using TileProductKernel = void (*)(TileProductArguments*);

std::vector<std::uint8_t> generate(const TileProductSpec& spec);
/// From the code cache. The code lives as long as the pointer.
std::shared_ptr<const Code> tile_product_code(const TileProductSpec& spec);

/// What ldtilecfg reads for TileProduct: tiles of sums and of the operand with `rows` rows, tiles of weights
/// with 16.
struct alignas(64) TilePalette {
  explicit TilePalette(int rows);
  std::uint8_t palette = 1, start_row = 0, reserved[14] = {};
  std::uint16_t line_bytes[16] = {};
  std::uint8_t rows[16] = {};
};
/// Gives this thread's tiles the palette's shape; kernels may run until tile_release. Each costs some 200
/// cycles.
using TileConfigure = void (*)(const TilePalette*);
using TileRelease = void (*)();
std::shared_ptr<const Code> tile_configure_code();
std::shared_ptr<const Code> tile_release_code();

}  // namespace replk::jit
