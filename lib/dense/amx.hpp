// Linear layers in bf16, bf16x3 and int8 by AMX tiles (jit/tile_product.hpp). Inside the box only.
#pragma once
#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "core/features.hpp"
#include "core/memory.hpp"
#include "jit/code.hpp"
#include "jit/tile_product.hpp"

namespace replk::dense {

/// Weights as tiles in the order of use: [panel][step] of jit::tile_step_panel bytes, zeros behind the last
/// input and output. Element v of a tile's row r and output n is input step * tile_step + r * V + v, V = 2
/// (bf16) or 4 (int8); bf16x3 has the tiles of the high parts, then those of the low ones.
using TilePanels = core::Buffer<std::byte>;
/// weights: [outputs][inputs], rounded to bf16 (bf16x3: to the sum of two).
TilePanels tile_panels(Precision precision, int inputs, int outputs, std::span<const float> weights);
TilePanels tile_panels(int inputs, int outputs, std::span<const std::int8_t> weights);

/// What a product is asked for.
struct TileLayer {
  Precision precision = Precision::bf16;  // not fp32
  std::int64_t rows = 1;
  int inputs = 1, outputs = 1;
  Activation activation = Activation::none;
  bool residual = false, result = true;
  Element src = Element::f32, copy = Element::f32;
};

/// How it is cut: the depth into parts of at most `depth` inputs, the rows into groups of about `rows`, whose
/// operand stays in the L2 while all panels pass.
struct TileBlocking {
  int depth = 0;
  int rows = 0;
};

/// Per output or input, empty where the layer has none.
struct TileConstants {
  std::span<const float> bias;                     // [outputs]
  std::span<const float> multiplier;               // [outputs], int8
  std::span<const float> src_scale, src_offset;    // [inputs], int8 of fp32
  std::span<const float> copy_scale, copy_offset;  // [outputs], copies in u8
};

struct TileRun {
  const void* src;
  float* dst;
  void* copy;
  const float* residual;
  void* scratch;
  std::span<const std::byte> next;
};

/// A product, prepared. Immutable and thread-safe.
class TileProduct {
 public:
  TileProduct(const TileLayer& layer, std::shared_ptr<const TilePanels> weights,
              const TileConstants& constants, TileBlocking blocking, int threads, Features features);
  std::size_t scratch_bytes() const;
  void run(const TileRun& run) const;

 private:
  class Walk;
  /// Rows [first, end) of the operand, whose row 0 is `rows` bytes apart from the next.
  struct Operand {
    const std::byte* data = nullptr;  // of row 0, were it there
    std::int64_t stride = 0;
  };
  std::int64_t tile_row(std::int64_t tile) const;
  void choose_tiles(std::int64_t rows);
  void make_code(Features features);
  std::size_t thread_bytes() const;
  void make_rows(const void* src, std::int64_t first, std::int64_t end, std::byte* to) const;

  TileLayer layer_;
  int threads_;
  std::shared_ptr<const TilePanels> weights_;
  core::Buffer<float> bias_, multiplier_, src_scale_, src_offset_, copy_scale_, copy_offset_;
  core::Buffer<std::byte> zeros_;  // what sums of int8 start from
  int steps_ = 1, parts_ = 1;      // of the depth
  int height_ = 1;                 // of every tile; the last ones overlap those before
  std::int64_t blocks_ = 1;        // of two tiles
  std::int64_t row_groups_ = 1, panels_ = 1, panel_groups_ = 1;
  bool made_ = false;  // whether the operand is made in scratch
  std::int64_t operand_stride_ = 0;
  int rows_per_step_ = 1, prefetch_lines_ = 1;
  std::shared_ptr<const jit::Code> product_, operand_, configure_, release_;
};

}  // namespace replk::dense
