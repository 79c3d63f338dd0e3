#include "dense/amx.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <cstdio>
#include <span>
#include <utility>

#include "core/cpu.hpp"
#include "core/memory.hpp"
#include "core/threads.hpp"
#include "dense/constants.hpp"
#include "dense/tile_walk.hpp"
#include "jit/kernels/tile_operand.hpp"
#include "jit/kernels/tile_product.hpp"
#include "jit/x64/code.hpp"

namespace replk::dense {
namespace {

using core::round_up;

/// [0, total) in `parts` nearly equal ranges.
std::int64_t bound(std::int64_t total, std::int64_t parts, std::int64_t i) {
  return total * i / parts;
}
std::int64_t quotient_up(std::int64_t a, std::int64_t b) {
  return (a + b - 1) / b;
}

std::span<const float> view(const core::Buffer<float>& buffer) {
  return {buffer.data(), buffer.size()};
}
core::Buffer<float> padded(std::span<const float> values) {
  core::Buffer<float> buffer(round_up(values.size(), jit::tile_panel), true);
  std::copy(values.begin(), values.end(), buffer.begin());
  return buffer;
}

struct Blocking {
  int depth = 0;             // inputs of a part of the reduction, at most
  int rows = 0;              // rows of a group, about
  bool parts_first = false;  // a part in all panels before the next part, or a panel in all its parts
  std::string text() const {
    return fmt::format("amx depth={} rows={} order={}", depth, rows, parts_first ? "parts" : "panels");
  }
};

bool parse(const std::string& text, Blocking& blocking) {
  if (std::sscanf(text.c_str(), "amx depth=%7d rows=%7d", &blocking.depth, &blocking.rows) != 2) return false;
  blocking.parts_first = text.ends_with("parts");
  return text == blocking.text() && blocking.depth >= 1 && blocking.rows >= 1;
}

/// What is multiplied, in the order of tiles.
Element operand_type(Precision precision) {
  return precision == Precision::int8     ? Element::u8_tiles
         : precision == Precision::bf16x3 ? Element::bf16x2_tiles
                                          : Element::bf16_tiles;
}

/// Tiles as NarrowWeights packs them: those of a panel's outputs side by side, words of inputs, whole steps.
NarrowWeights::Panels tiles_of(Precision precision) {
  return {jit::tile_panel, precision == Precision::int8 ? 4 : 2, jit::tile_step(precision)};
}

/// A product by tiles with its operand: given, or made in scratch.
class AmxEngine final : public Engine {
 public:
  AmxEngine(const Linear& l, NarrowWeights& weights, const Quantiser& copy, Blocking blocking, int threads,
            Features features);

  std::string implementation() const override {
    return fmt::format("amx:{}", name(product_.linear.precision));
  }
  std::size_t scratch_bytes() const override;
  core::Prefetch prefetch() const override;
  void run(const LinearRun& run) const override;

 private:
  void make_code(bool native_bf16);
  std::size_t sums_bytes() const;
  std::size_t thread_bytes() const;
  void make_block(ConstValues src, std::int64_t block, std::byte* to) const;

  TiledProduct product_;
  int threads_;
  Quantiser input_;
  std::int64_t panel_groups_ = 1;
  bool made_ = false;                         // whether the operand is made in scratch
  std::shared_ptr<const jit::Code> operand_;  // makes it
};

AmxEngine::AmxEngine(const Linear& l, NarrowWeights& weights, const Quantiser& copy, Blocking blocking,
                     int threads, Features features)
    : threads_(threads), input_(weights.input()) {
  product_.linear = l;
  product_.weights = weights.panels(tiles_of(l.precision));
  product_.weights_panel = std::int64_t(weights.panel_bytes(tiles_of(l.precision)));
  product_.bias = padded(view(weights.bias()));
  product_.multiplier = padded(view(weights.multiplier()));
  product_.copy_scale = padded(copy.scale);
  product_.copy_offset = padded(copy.offset);
  product_.zeros = core::Buffer<std::byte>(jit::tile_sums_line, true);
  product_.operand = core::TileOrder(l.rows, l.inputs, operand_type(l.precision));
  if (in_tiles(l.copy)) product_.copy = core::TileOrder(l.rows, l.outputs, l.copy);
  product_.parts =
      int(quotient_up(product_.operand.steps(), std::max(1, blocking.depth / jit::tile_step(l.precision))));
  product_.parts_first = blocking.parts_first;
  product_.panels = quotient_up(l.outputs, jit::tile_panel);
  product_.row_groups =
      std::clamp<std::int64_t>(quotient_up(l.rows, blocking.rows), 1, product_.operand.blocks());
  // Groups that do not share out evenly are cut across the panels as well.
  panel_groups_ = threads_ > 1 && product_.row_groups % threads_ != 0
                      ? std::min<std::int64_t>(threads_, product_.panels)
                      : 1;
  made_ = !in_tiles(l.src);
  make_code(features.has(Feature::avx512_bf16));
}

void AmxEngine::make_code(bool native_bf16) {
  const core::TileOrder& order = product_.operand;
  product_.rows_per_step = int(std::min<std::int64_t>(
      quotient_up(order.block_rows(), quotient_up(order.steps(), product_.parts)), constants.rows_per_step));
  // All of the next part's weights while the blocks pass, evenly: in bursts they delay the operand's lines,
  // which come from the L2 as well.
  const std::int64_t lines = jit::tile_step_weight_bytes / jit::tile_line,
                     blocks_of_run =
                         std::max<std::int64_t>(1, product_.group_blocks() / product_.weight_runs());
  product_.prefetch_lines =
      int(std::min<std::int64_t>(quotient_up(lines, blocks_of_run), constants.lines_of_step));
  jit::TileProductSpec spec;
  spec.precision = product_.linear.precision;
  spec.rows_per_step = product_.rows_per_step;
  spec.activation = product_.linear.activation;
  spec.residual = product_.linear.residual;
  spec.result = product_.linear.result;
  spec.copy = without_order(product_.linear.copy);
  spec.native_bf16 = native_bf16;
  spec.prefetch_lines = product_.prefetch_lines;
  product_.code = jit::tile_product_code(spec);
  product_.configure = jit::tile_configure_code();
  product_.release = jit::tile_release_code();
  if (made_)
    operand_ = jit::tile_operand_code({product_.linear.precision, product_.linear.src == Element::f32,
                                       product_.linear.inputs, native_bf16});
}

/// Of one thread: sums that wait, and blocks of the operand where each thread makes its own.
std::size_t AmxEngine::sums_bytes() const {
  const std::int64_t panels = product_.parts_first ? quotient_up(product_.panels, panel_groups_) : 1;
  const std::int64_t blocks = product_.parts > 1 ? product_.group_blocks() * panels : 1;
  return std::size_t(blocks) * jit::tile_block_rows * jit::tile_sums_line;
}
std::size_t AmxEngine::thread_bytes() const {
  const bool own = made_ && panel_groups_ == 1;
  const std::size_t operand = own ? std::size_t(product_.group_blocks() * product_.operand.block_bytes()) : 0;
  return round_up(sums_bytes() + operand, 4096) + core::scratch_gap;
}

std::size_t AmxEngine::scratch_bytes() const {
  const std::size_t shared = made_ && panel_groups_ > 1 ? product_.operand.bytes() : 0;
  return shared + thread_bytes() * std::size_t(threads_);
}

/// Those of the first panel's first part: all others are prefetched meanwhile.
core::Prefetch AmxEngine::prefetch() const {
  const std::int64_t steps = quotient_up(product_.operand.steps(), product_.parts);
  return core::Prefetch({product_.weights->data(), std::size_t(steps * jit::tile_step_weight_bytes)});
}

void AmxEngine::make_block(ConstValues src, std::int64_t block, std::byte* to) const {
  const core::TileOrder& order = product_.operand;
  const std::int64_t first = block * order.block_rows();
  jit::TileOperandArguments arguments;
  arguments.src_stride = product_.linear.inputs * std::int64_t(size_of(src.type()));
  arguments.src = (src + first * product_.linear.inputs).bytes();
  arguments.dst = to;
  arguments.rows = std::min(order.block_rows(), product_.linear.rows - first);
  arguments.dst_stride = order.piece_bytes();
  arguments.dst_step = order.step_bytes();
  arguments.scale = input_.scale.data();
  arguments.offset = input_.offset.data();
  operand_->entry<jit::TileOperandKernel>()(&arguments);
}

void AmxEngine::run(const LinearRun& run) const {
  const std::int64_t tasks = product_.row_groups * panel_groups_;
  const std::int64_t blocks = product_.operand.blocks(), block_bytes = product_.operand.block_bytes();
  std::byte* const scratch = static_cast<std::byte*>(run.scratch);
  std::byte* const shared = scratch + thread_bytes() * std::size_t(threads_);
  const bool made_together = made_ && panel_groups_ > 1;
  if (made_together)
    core::parallel_for(blocks, threads_, [&](std::int64_t block, int) {
      make_block(run.src, block, shared + block * block_bytes);
    });
  core::parallel_for(tasks, threads_, [&](std::int64_t task, int thread) {
    const std::int64_t rows = task / panel_groups_, panels = task % panel_groups_;
    const std::int64_t block = bound(blocks, product_.row_groups, rows),
                       block_end = bound(blocks, product_.row_groups, rows + 1);
    const std::int64_t panel = bound(product_.panels, panel_groups_, panels),
                       panel_end = bound(product_.panels, panel_groups_, panels + 1);
    std::byte* const sums = scratch + thread_bytes() * std::size_t(thread);
    const std::byte* operand = made_together ? shared : run.src.bytes();
    if (made_ && !made_together) {
      std::byte* const own = sums + sums_bytes() - block * block_bytes;
      for (std::int64_t b = block; b < block_end; b++) make_block(run.src, b, own + b * block_bytes);
      operand = own;
    }
    core::Prefetch later = run.prefetch.part(task, tasks);
    later.delay((panel_end - panel) * (block_end - block) * product_.operand.steps(), jit::tile_line);
    TileWalk walk(product_, run, operand, sums, later);
    walk.run(panel, panel_end, block, block_end);
    walk.finish();
  });
}

}  // namespace

bool amx_suffices(Precision precision, Features features) {
  const Features tiles = Feature::avx512 | Feature::amx_tile;
  switch (precision) {
    case Precision::fp32:
      return false;
    case Precision::bf16:
    case Precision::bf16x3:
      return features.has(tiles | Feature::amx_bf16);
    case Precision::int8:
      return features.has(tiles | Feature::amx_int8);
  }
  return false;
}

std::vector<std::string> amx_choices(const Linear& l, Features features) {
  if (!amx_suffices(l.precision, features)) return {};
  std::vector<std::string> choices;
  const std::int64_t row = std::int64_t(l.inputs) * (l.precision == Precision::int8     ? 1
                                                     : l.precision == Precision::bf16x3 ? 4
                                                                                        : 2);
  // A part of the weights of 32 outputs is 32 KiB of the L1. Groups of rows fill half of the L2, most of it,
  // or a small part.
  const int depth = l.precision == Precision::int8 ? 1024 : l.precision == Precision::bf16 ? 512 : 256;
  const auto rows_of = [&](std::size_t bytes) {
    return int(std::clamp<std::int64_t>(std::int64_t(bytes) / row, 64, 1 << 20));
  };
  const std::size_t l2 = core::cpu().l2_bytes;
  for (const int d : {depth, 2 * depth, 16 * depth}) {
    if (d > depth && 2 * l.inputs <= d) continue;
    std::int64_t groups = 0;
    for (const std::size_t bytes : {l2 / 2, l2 / 8 * 7, l2 / 16}) {
      const int rows = rows_of(bytes);
      if (quotient_up(l.rows, rows) == groups) continue;  // the same groups
      groups = quotient_up(l.rows, rows);
      const bool parts = l.inputs > d && bytes > l2 / 2;
      choices.push_back(Blocking{d, rows, false}.text());
      if (parts) choices.push_back(Blocking{d, rows, true}.text());
      // Weights that the L2 does not hold pass once where all rows are one group: 0.91 ms instead of 1.40 for
      // 196 x 2048 to 512 in bf16x3.
      if (d == depth && parts && groups == 1 && l.outputs * row > std::int64_t(l2))
        std::rotate(choices.begin(), choices.end() - 1, choices.end());
    }
  }
  return choices;
}

std::unique_ptr<Engine> amx_linear(const Linear& linear, NarrowWeights& weights, const Quantiser& copy,
                                   const std::string& choice, int threads, Features features) {
  Blocking blocking;
  if (!amx_suffices(linear.precision, features) || !parse(choice, blocking)) return nullptr;
  return std::make_unique<AmxEngine>(linear, weights, copy, blocking, threads, features);
}

}  // namespace replk::dense
