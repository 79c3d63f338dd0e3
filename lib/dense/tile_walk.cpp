#include "dense/tile_walk.hpp"

#include <algorithm>

namespace replk::dense {

TileWalk::TileWalk(const TiledProduct& product, const LinearRun& run, const std::byte* operand,
                   std::byte* sums, core::Prefetch prefetch)
    : product_(product),
      linear_(product.linear),
      run_(run),
      operand_(operand),
      sums_(sums),
      prefetch_(prefetch) {
  arguments_.a_step = product.operand.step_bytes();
  arguments_.done = sums;  // no rows yet; constants are loaded all the same
  arguments_.multiplier = arguments_.bias = arguments_.scale = arguments_.offset =
      reinterpret_cast<const float*>(product.zeros.data());
  arguments_.dst_stride = linear_.outputs * std::int64_t(sizeof(float));
  arguments_.copy_stride = in_tiles(linear_.copy) ? product.copy.piece_bytes()
                                                  : linear_.outputs * std::int64_t(size_of(linear_.copy));
  const jit::TilePalette palette(product.operand.height());
  product.configure->entry<jit::TileConfigure>()(&palette);
}
TileWalk::~TileWalk() {
  product_.release->entry<jit::TileRelease>()();
}

void TileWalk::run(std::int64_t panel, std::int64_t panel_end, std::int64_t block, std::int64_t block_end) {
  const std::int64_t panels = panel_end - panel, visits = panels * product_.parts;
  const bool parts_first = product_.parts_first;
  const auto part = [&](std::int64_t i) { return int(parts_first ? i / panels : i % product_.parts); };
  const auto of = [&](std::int64_t i) { return panel + (parts_first ? i % panels : i / product_.parts); };
  for (std::int64_t i = 0; i < visits; i++) {
    ahead_ = {};
    if (i + 1 < visits) look_ahead(part(i + 1), of(i + 1));
    const std::int64_t waiting = parts_first ? (of(i) - panel) * product_.group_blocks() : 0;
    for (std::int64_t b = block; b < block_end; b++) {
      // Partial sums wait, each block's in its place.
      const std::int64_t place = product_.parts > 1 ? waiting + b - block : 0;
      add_part(part(i), b, of(i), sums_ + place * jit::tile_block_rows * jit::tile_sums_line);
      if (part(i) + 1 == product_.parts) leave(b, of(i));
    }
  }
}

void TileWalk::finish() {
  arguments_.sums0 = nullptr;
  call(0);
}

/// First step of a part.
std::int64_t TileWalk::first_step(int part) const {
  return product_.operand.steps() * part / product_.parts;
}
const std::byte* TileWalk::weights(std::int64_t panel) const {
  return product_.weights->data() + panel * product_.weights_panel;
}

/// What prefetches go over: the tiles of a part, of bf16x3 the high and the low ones.
void TileWalk::look_ahead(int part, std::int64_t panel) {
  const std::int64_t first = first_step(part), steps = first_step(part + 1) - first;
  const std::byte* run = weights(panel) + first * jit::tile_step_weight_bytes;
  for (int i = 0; i < product_.weight_runs(); i++, run += product_.weights_panel / 2)
    ahead_[std::size_t(i)] = core::Prefetch({run, std::size_t(steps * jit::tile_step_weight_bytes)});
}

void TileWalk::add_part(int part, std::int64_t block, std::int64_t panel, std::byte* sums) {
  const std::int64_t first = first_step(part), end = first_step(part + 1);
  const core::TileOrder& order = product_.operand;
  const std::byte* const a = operand_ + block * order.block_bytes() + first * order.step_bytes();
  arguments_.a0 = a;
  arguments_.a1 = a + order.height() * order.piece_bytes();
  arguments_.weights = weights(panel) + first * jit::tile_step_weight_bytes;
  arguments_.low_weights = product_.weights_panel / 2;
  arguments_.sums0 = sums;
  arguments_.sums1 = sums + order.height() * jit::tile_sums_line;
  arguments_.first = part == 0;
  call(end - first);
}

void TileWalk::call(std::int64_t steps) {
  const std::int64_t rows_per_step = product_.rows_per_step;
  arguments_.both = std::min(steps, waiting_ / rows_per_step);
  arguments_.rows = waiting_ - arguments_.both * rows_per_step;
  arguments_.steps = steps - arguments_.both;
  waiting_ = 0;
  const std::int64_t line = jit::tile_line;
  std::size_t run = 0;
  while (run + 1 < ahead_.size() && ahead_[run].empty()) run++;
  const void* const idle = product_.weights->data();
  const core::Prefetch::Walk own = ahead_[run].take(steps, product_.prefetch_lines * line, idle),
                             later = prefetch_.take(steps, line, idle);
  arguments_.prefetch = own.begin;
  arguments_.prefetch_advance = own.step;
  arguments_.later = later.begin;
  arguments_.later_advance = later.step;
  product_.code->entry<jit::TileProductKernel>()(&arguments_);
}

std::byte* TileWalk::copy_of(std::int64_t row, std::int64_t output) const {
  if (!run_.copy) return nullptr;
  if (!in_tiles(linear_.copy)) return (run_.copy + (row * linear_.outputs + output)).bytes();
  return run_.copy.bytes() + product_.copy.offset(row, output);
}

/// The block just summed waits for its epilogue: those of its rows that there are.
void TileWalk::leave(std::int64_t block, std::int64_t panel) {
  const std::int64_t rows = product_.operand.block_rows(), first = block * rows;
  const std::int64_t output = panel * jit::tile_panel, at = first * linear_.outputs + output;
  waiting_ = std::min(rows, linear_.rows - first);
  arguments_.done = arguments_.sums0;
  arguments_.dst = linear_.result ? run_.dst + at : nullptr;
  arguments_.residual = linear_.residual ? run_.residual + at : nullptr;
  arguments_.copy = copy_of(first, output);
  const auto of_panel = [&](const core::Buffer<float>& values) {
    return values.size() > 0 ? values.data() + output : reinterpret_cast<const float*>(product_.zeros.data());
  };
  arguments_.multiplier = of_panel(product_.multiplier);
  arguments_.bias = of_panel(product_.bias);
  arguments_.scale = of_panel(product_.copy_scale);
  arguments_.offset = of_panel(product_.copy_offset);
  const std::int64_t columns = std::min<std::int64_t>(jit::tile_panel, linear_.outputs - output);
  arguments_.columns = (std::uint64_t{1} << columns) - 1;
}

}  // namespace replk::dense
