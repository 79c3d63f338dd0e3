#include "dense/tile_walk.hpp"

#include <algorithm>

namespace replk::dense {

TileWalk::TileWalk(const TiledProduct& product, const LinearRun& run, TiledOperand operand, std::byte* sums,
                   core::Prefetch prefetch)
    : product_(product),
      linear_(product.linear),
      run_(run),
      operand_(operand),
      sums_(sums),
      prefetch_(prefetch) {
  arguments_.a_stride = operand.stride;
  arguments_.done = sums;  // no rows yet; constants are loaded all the same
  arguments_.multiplier = arguments_.bias = arguments_.scale = arguments_.offset =
      reinterpret_cast<const float*>(product.zeros.data());
  arguments_.dst_stride = linear_.outputs * std::int64_t(sizeof(float));
  arguments_.copy_stride = linear_.outputs * copy_size();
  const jit::TilePalette palette(product.height);
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
  return std::int64_t{product_.steps} * part / product_.parts;
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
  const std::int64_t row0 = product_.tile_row(2 * block), row1 = product_.tile_row(2 * block + 1);
  const std::byte* const a = operand_.data + first * jit::tile_step_bytes(linear_.precision);
  arguments_.a0 = a + row0 * operand_.stride;
  arguments_.a1 = a + row1 * operand_.stride;
  arguments_.weights = weights(panel) + first * jit::tile_step_weight_bytes;
  arguments_.low_weights = product_.weights_panel / 2;
  arguments_.sums0 = sums;
  arguments_.sums1 = sums + (row1 - row0) * jit::tile_sums_line;
  const bool biased = linear_.precision != Precision::int8;
  arguments_.start0 = arguments_.start1 =
      biased ? static_cast<const void*>(product_.bias.data() + panel * jit::tile_panel)
             : product_.zeros.data();
  arguments_.start_stride = 0;
  if (part > 0) {
    arguments_.start0 = arguments_.sums0;
    arguments_.start1 = arguments_.sums1;
    arguments_.start_stride = jit::tile_sums_line;
  }
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

/// The block just summed waits for its epilogue: those of its rows that no block before it had.
void TileWalk::leave(std::int64_t block, std::int64_t panel) {
  const std::int64_t first = 2 * block * product_.height, row0 = product_.tile_row(2 * block),
                     end = product_.tile_row(2 * block + 1) + product_.height;
  const std::int64_t output = panel * jit::tile_panel, at = first * linear_.outputs + output;
  waiting_ = end - first;
  arguments_.done = static_cast<std::byte*>(arguments_.sums0) + (first - row0) * jit::tile_sums_line;
  arguments_.dst = linear_.result ? run_.dst + at : nullptr;
  arguments_.residual = linear_.residual ? run_.residual + at : nullptr;
  arguments_.copy = run_.copy ? (run_.copy + at).bytes() : nullptr;
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
