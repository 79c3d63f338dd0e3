// A linear layer prepared for AMX tiles, and the walk over its blocks: inside the box only.
#pragma once
#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>

#include "core/memory.hpp"
#include "core/prefetch.hpp"
#include "core/tile_order.hpp"
#include "dense/dense.hpp"
#include "dense/narrow_weights.hpp"
#include "jit/kernels/tile_product.hpp"
#include "jit/x64/code.hpp"

namespace replk::dense {

/// Blocks of two by two tiles, each as deep as a part. Groups of rows have their operand (or its part) in the
/// L2 while all weights pass; a panel's part stays in the L1 while all rows of the group pass.
struct TiledProduct {
  Linear linear;
  NarrowWeights::Form weights;
  std::int64_t weights_panel = 0;  // bytes of a panel's tiles
  core::Buffer<float> bias, multiplier, copy_scale, copy_offset;
  core::Buffer<std::byte> zeros;  // for constants that a layer has not
  core::TileOrder operand = {1, 1, Element::bf16_tiles};
  core::TileOrder copy = operand;  // of a copy in tiles
  int parts = 1;                   // of the depth
  bool parts_first = false;
  std::int64_t row_groups = 1, panels = 1;
  int rows_per_step = 1, prefetch_lines = 1;
  std::shared_ptr<const jit::Code> code, configure, release;

  std::int64_t group_blocks() const { return (operand.blocks() + row_groups - 1) / row_groups; }
  int weight_runs() const { return linear.precision == Precision::bf16x3 ? 2 : 1; }
};

/// Goes over blocks and panels with the epilogue of each block behind: it is done beside the next block's
/// steps. One thread's; its tiles are configured while it lives.
class TileWalk {
 public:
  /// operand: where that of block 0 lies, or would lie. sums: of blocks that wait.
  TileWalk(const TiledProduct& product, const LinearRun& run, const std::byte* operand, std::byte* sums,
           core::Prefetch prefetch);
  ~TileWalk();
  TileWalk(const TileWalk&) = delete;
  TileWalk& operator=(const TileWalk&) = delete;

  /// All parts of the depth in all panels [panel, panel_end) of 32 outputs, for blocks [block, block_end) of
  /// rows.
  void run(std::int64_t panel, std::int64_t panel_end, std::int64_t block, std::int64_t block_end);
  /// The epilogue of the last block.
  void finish();

 private:
  std::byte* copy_of(std::int64_t row, std::int64_t output) const;
  std::int64_t first_step(int part) const;
  const std::byte* weights(std::int64_t panel) const;
  void look_ahead(int part, std::int64_t panel);
  void add_part(int part, std::int64_t block, std::int64_t panel, std::byte* sums);
  void call(std::int64_t steps);
  void leave(std::int64_t block, std::int64_t panel);

  const TiledProduct& product_;
  const Linear& linear_;
  const LinearRun& run_;
  const std::byte* operand_;
  std::byte* sums_;
  std::array<core::Prefetch, 2> ahead_ = {};  // of this layer's own weights
  core::Prefetch prefetch_;
  std::int64_t waiting_ = 0;  // rows of the block before
  jit::TileProductArguments arguments_ = {};
};

}  // namespace replk::dense
