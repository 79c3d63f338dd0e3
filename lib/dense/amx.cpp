#include "dense/amx.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cstdio>
#include <span>
#include <utility>

#include "core/cpu.hpp"
#include "core/memory.hpp"
#include "core/threads.hpp"
#include "dense/constants.hpp"
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

bool suffice(const Linear& l, Features features) {
  const Features product = l.precision == Precision::int8 ? Feature::amx_int8 : Feature::amx_bf16;
  return l.precision != Precision::fp32 && features.has(Feature::avx512 | Feature::amx_tile | product);
}

/// Tiles as NarrowWeights packs them: those of a panel's outputs side by side, words of inputs, whole steps.
NarrowWeights::Panels tiles_of(Precision precision) {
  return {jit::tile_panel, precision == Precision::int8 ? 4 : 2, jit::tile_step(precision)};
}

/// Blocks of two by two tiles, each as deep as a part. Groups of rows have their operand (or its part) in the
/// L2 while all weights pass; a panel's part stays in the L1 while all rows of the group pass.
class AmxEngine final : public Engine {
 public:
  AmxEngine(const Linear& l, NarrowWeights& weights, const Quantiser& copy, Blocking blocking, int threads,
            Features features);

  std::string implementation() const override { return fmt::format("amx:{}", name(linear_.precision)); }
  std::size_t scratch_bytes() const override;
  void run(const LinearRun& run) const override;

 private:
  class Walk;
  /// Row r lies at data + r * stride.
  struct Operand {
    const std::byte* data = nullptr;
    std::int64_t stride = 0;
  };
  std::int64_t tile_row(std::int64_t tile) const;
  void choose_tiles(std::int64_t rows);
  void make_code(bool native_bf16);
  std::int64_t group_blocks() const { return quotient_up(blocks_, row_groups_); }
  int weight_runs() const { return linear_.precision == Precision::bf16x3 ? 2 : 1; }
  std::size_t sums_bytes() const;
  std::size_t thread_bytes() const;
  void make_rows(ConstValues src, std::int64_t first, std::int64_t end, std::byte* to) const;

  Linear linear_;
  int threads_;
  NarrowWeights::Form weights_;
  std::int64_t weights_panel_ = 0;  // bytes of a panel's tiles
  core::Buffer<float> bias_, multiplier_;
  Quantiser input_;
  core::Buffer<float> copy_scale_, copy_offset_;
  core::Buffer<std::byte> zeros_;  // what sums of int8 start from
  int steps_ = 1, parts_ = 1;      // of the depth
  bool parts_first_ = false;
  int height_ = 1;           // of every tile; the last ones overlap those before
  std::int64_t blocks_ = 1;  // of two tiles
  std::int64_t row_groups_ = 1, panels_ = 1, panel_groups_ = 1;
  bool made_ = false;  // whether the operand is made in scratch
  std::int64_t operand_stride_ = 0;
  int rows_per_step_ = 1, prefetch_lines_ = 1;
  std::shared_ptr<const jit::Code> product_, operand_, configure_, release_;
};

AmxEngine::AmxEngine(const Linear& l, NarrowWeights& weights, const Quantiser& copy, Blocking blocking,
                     int threads, Features features)
    : linear_(l),
      threads_(threads),
      weights_(weights.panels(tiles_of(l.precision))),
      weights_panel_(std::int64_t(weights.panel_bytes(tiles_of(l.precision)))),
      bias_(padded(view(weights.bias()))),
      multiplier_(padded(view(weights.multiplier()))),
      input_(weights.input()),
      copy_scale_(padded(copy.scale)),
      copy_offset_(padded(copy.offset)),
      zeros_(jit::tile_sums_line, true) {
  const int step = jit::tile_step(l.precision);
  steps_ = int(quotient_up(l.inputs, step));
  parts_ = int(quotient_up(steps_, std::max(1, blocking.depth / step)));
  parts_first_ = blocking.parts_first;
  choose_tiles(l.rows);
  panels_ = quotient_up(l.outputs, jit::tile_panel);
  row_groups_ = std::clamp<std::int64_t>(quotient_up(l.rows, blocking.rows), 1, blocks_);
  // Groups that do not share out evenly are cut across the panels as well.
  panel_groups_ = threads_ > 1 && row_groups_ % threads_ != 0 ? std::min<std::int64_t>(threads_, panels_) : 1;
  made_ = l.src == Element::f32 || l.inputs % step != 0;
  operand_stride_ = made_ ? std::int64_t(steps_) * jit::tile_step_bytes(l.precision)
                          : std::int64_t(l.inputs) * std::int64_t(size_of(l.src));
  if (made_ && operand_stride_ % constants.tile_set_bytes == 0)
    operand_stride_ += jit::tile_line;  // else rows share few sets
  make_code(features.has(Feature::avx512_bf16));
}

/// Tiles of one height, for which the thread's palette is set once a run: the lowest that needs no more
/// tiles. The last tiles begin higher instead of being cut, and what they have in common with those before is
/// computed twice.
void AmxEngine::choose_tiles(std::int64_t rows) {
  const std::int64_t tiles = 2 * quotient_up(rows, jit::tile_block_rows);
  height_ = int(quotient_up(rows, tiles));
  blocks_ = quotient_up(rows, 2 * height_);
}

std::int64_t AmxEngine::tile_row(std::int64_t tile) const {
  return std::min(tile * height_, linear_.rows - height_);
}

void AmxEngine::make_code(bool native_bf16) {
  rows_per_step_ = int(
      std::min<std::int64_t>(quotient_up(2 * height_, quotient_up(steps_, parts_)), constants.rows_per_step));
  // All of the next part's weights while the blocks pass, evenly: each prefetch that is under way holds a
  // fill buffer, which the operand's lines need as well.
  const std::int64_t lines = jit::tile_step_weight_bytes / jit::tile_line,
                     blocks_of_run = std::max<std::int64_t>(1, group_blocks() / weight_runs());
  prefetch_lines_ = int(std::min<std::int64_t>(quotient_up(lines, blocks_of_run), constants.lines_of_step));
  jit::TileProductSpec spec;
  spec.precision = linear_.precision;
  spec.rows_per_step = rows_per_step_;
  spec.activation = linear_.activation;
  spec.residual = linear_.residual;
  spec.result = linear_.result;
  spec.copy = linear_.copy;
  spec.native_bf16 = native_bf16;
  spec.prefetch_lines = prefetch_lines_;
  product_ = jit::tile_product_code(spec);
  configure_ = jit::tile_configure_code();
  release_ = jit::tile_release_code();
  if (made_)
    operand_ =
        jit::tile_operand_code({linear_.precision, linear_.src == Element::f32, linear_.inputs, native_bf16});
}

/// Of one thread: sums that wait, and rows of the operand where each thread makes its own.
std::size_t AmxEngine::sums_bytes() const {
  const std::int64_t panels = parts_first_ ? quotient_up(panels_, panel_groups_) : 1;
  const std::int64_t blocks = parts_ > 1 ? group_blocks() * panels : 1;
  return std::size_t(blocks) * jit::tile_block_rows * jit::tile_sums_line;
}
std::size_t AmxEngine::thread_bytes() const {
  const bool own = made_ && panel_groups_ == 1;
  const std::size_t operand = own ? std::size_t(group_blocks() * 2 * height_ * operand_stride_) : 0;
  return round_up(sums_bytes() + operand, 4096) + core::scratch_gap;
}

std::size_t AmxEngine::scratch_bytes() const {
  const std::size_t shared = made_ && panel_groups_ > 1 ? std::size_t(linear_.rows * operand_stride_) : 0;
  return shared + thread_bytes() * std::size_t(threads_);
}

void AmxEngine::make_rows(ConstValues src, std::int64_t first, std::int64_t end, std::byte* to) const {
  jit::TileOperandArguments arguments;
  arguments.src_stride = linear_.inputs * std::int64_t(size_of(src.type()));
  arguments.src = (src + first * linear_.inputs).bytes();
  arguments.dst = to;
  arguments.rows = end - first;
  arguments.dst_stride = operand_stride_;
  arguments.scale = input_.scale.data();
  arguments.offset = input_.offset.data();
  operand_->entry<jit::TileOperandKernel>()(&arguments);
}

/// Goes over blocks and panels with the epilogue of each block behind: it is done beside the next block's
/// steps.
class AmxEngine::Walk {
 public:
  Walk(const AmxEngine& product, const LinearRun& run, Operand operand, std::byte* sums,
       core::Prefetch prefetch)
      : product_(product),
        linear_(product.linear_),
        run_(run),
        operand_(operand),
        sums_(sums),
        prefetch_(prefetch) {
    arguments_.a_stride = operand.stride;
    arguments_.done = sums;  // no rows yet; constants are loaded all the same
    arguments_.multiplier = arguments_.bias = arguments_.scale = arguments_.offset =
        reinterpret_cast<const float*>(product.zeros_.data());
    arguments_.dst_stride = linear_.outputs * std::int64_t(sizeof(float));
    arguments_.copy_stride = linear_.outputs * copy_size();
    const jit::TilePalette palette(product.height_);
    product.configure_->entry<jit::TileConfigure>()(&palette);
  }
  ~Walk() { product_.release_->entry<jit::TileRelease>()(); }
  Walk(const Walk&) = delete;
  Walk& operator=(const Walk&) = delete;

  /// All parts of the depth in all panels [panel, panel_end) of 32 outputs, for blocks [block, block_end) of
  /// rows.
  void run(std::int64_t panel, std::int64_t panel_end, std::int64_t block, std::int64_t block_end) {
    const std::int64_t panels = panel_end - panel, visits = panels * product_.parts_;
    const bool parts_first = product_.parts_first_;
    const auto part = [&](std::int64_t i) { return int(parts_first ? i / panels : i % product_.parts_); };
    const auto of = [&](std::int64_t i) { return panel + (parts_first ? i % panels : i / product_.parts_); };
    for (std::int64_t i = 0; i < visits; i++) {
      ahead_ = {};
      if (i + 1 < visits) look_ahead(part(i + 1), of(i + 1));
      const std::int64_t waiting = parts_first ? (of(i) - panel) * product_.group_blocks() : 0;
      for (std::int64_t b = block; b < block_end; b++) {
        // Partial sums wait, each block's in its place.
        const std::int64_t place = product_.parts_ > 1 ? waiting + b - block : 0;
        add_part(part(i), b, of(i), sums_ + place * jit::tile_block_rows * jit::tile_sums_line);
        if (part(i) + 1 == product_.parts_) leave(b, of(i));
      }
    }
  }

  /// The epilogue of the last block.
  void finish() {
    arguments_.sums0 = nullptr;
    call(0);
  }

 private:
  std::int64_t copy_size() const { return std::int64_t(size_of(linear_.copy)); }

  /// First step of a part.
  std::int64_t first_step(int part) const { return bound(product_.steps_, product_.parts_, part); }
  const std::byte* weights(std::int64_t panel) const {
    return product_.weights_->data() + panel * product_.weights_panel_;
  }

  /// What prefetches go over: the tiles of a part, of bf16x3 the high and the low ones.
  void look_ahead(int part, std::int64_t panel) {
    const std::int64_t first = first_step(part), steps = first_step(part + 1) - first;
    const std::byte* run = weights(panel) + first * jit::tile_step_weight_bytes;
    for (int i = 0; i < product_.weight_runs(); i++, run += product_.weights_panel_ / 2)
      ahead_[std::size_t(i)] = core::Prefetch({run, std::size_t(steps * jit::tile_step_weight_bytes)});
  }

  void add_part(int part, std::int64_t block, std::int64_t panel, std::byte* sums) {
    const std::int64_t first = first_step(part), end = first_step(part + 1);
    const std::int64_t row0 = product_.tile_row(2 * block), row1 = product_.tile_row(2 * block + 1);
    const std::byte* const a = operand_.data + first * jit::tile_step_bytes(linear_.precision);
    arguments_.a0 = a + row0 * operand_.stride;
    arguments_.a1 = a + row1 * operand_.stride;
    arguments_.weights = weights(panel) + first * jit::tile_step_weight_bytes;
    arguments_.low_weights = product_.weights_panel_ / 2;
    arguments_.sums0 = sums;
    arguments_.sums1 = sums + (row1 - row0) * jit::tile_sums_line;
    const bool biased = linear_.precision != Precision::int8;
    arguments_.start0 = arguments_.start1 =
        biased ? static_cast<const void*>(product_.bias_.data() + panel * jit::tile_panel)
               : product_.zeros_.data();
    arguments_.start_stride = 0;
    if (part > 0) {
      arguments_.start0 = arguments_.sums0;
      arguments_.start1 = arguments_.sums1;
      arguments_.start_stride = jit::tile_sums_line;
    }
    call(end - first);
  }

  void call(std::int64_t steps) {
    const std::int64_t rows_per_step = product_.rows_per_step_;
    arguments_.both = std::min(steps, waiting_ / rows_per_step);
    arguments_.rows = waiting_ - arguments_.both * rows_per_step;
    arguments_.steps = steps - arguments_.both;
    waiting_ = 0;
    const std::int64_t line = jit::tile_line;
    std::size_t run = 0;
    while (run + 1 < ahead_.size() && ahead_[run].empty()) run++;
    const void* const idle = product_.weights_->data();
    const core::Prefetch::Walk own = ahead_[run].take(steps, product_.prefetch_lines_ * line, idle),
                               later = prefetch_.take(steps, line, idle);
    arguments_.prefetch = own.begin;
    arguments_.prefetch_advance = own.step;
    arguments_.later = later.begin;
    arguments_.later_advance = later.step;
    product_.product_->entry<jit::TileProductKernel>()(&arguments_);
  }

  /// The block just summed waits for its epilogue: those of its rows that no block before it had.
  void leave(std::int64_t block, std::int64_t panel) {
    const std::int64_t first = 2 * block * product_.height_, row0 = product_.tile_row(2 * block),
                       end = product_.tile_row(2 * block + 1) + product_.height_;
    const std::int64_t output = panel * jit::tile_panel, at = first * linear_.outputs + output;
    waiting_ = end - first;
    arguments_.done = static_cast<std::byte*>(arguments_.sums0) + (first - row0) * jit::tile_sums_line;
    arguments_.dst = linear_.result ? run_.dst + at : nullptr;
    arguments_.residual = linear_.residual ? run_.residual + at : nullptr;
    arguments_.copy = run_.copy ? (run_.copy + at).bytes() : nullptr;
    const auto of_panel = [&](const core::Buffer<float>& values) {
      return values.size() > 0 ? values.data() + output
                               : reinterpret_cast<const float*>(product_.zeros_.data());
    };
    arguments_.multiplier = of_panel(product_.multiplier_);
    arguments_.bias = of_panel(product_.bias_);
    arguments_.scale = of_panel(product_.copy_scale_);
    arguments_.offset = of_panel(product_.copy_offset_);
    const std::int64_t columns = std::min<std::int64_t>(jit::tile_panel, linear_.outputs - output);
    arguments_.columns = (std::uint64_t{1} << columns) - 1;
  }

  const AmxEngine& product_;
  const Linear& linear_;
  const LinearRun& run_;
  Operand operand_;
  std::byte* sums_;
  std::array<core::Prefetch, 2> ahead_ = {};  // of this layer's own weights
  core::Prefetch prefetch_;
  std::int64_t waiting_ = 0;  // rows of the block before
  jit::TileProductArguments arguments_ = {};
};

void AmxEngine::run(const LinearRun& run) const {
  const std::int64_t tasks = row_groups_ * panel_groups_, stride = operand_stride_;
  std::byte* const scratch = static_cast<std::byte*>(run.scratch);
  std::byte* const shared = scratch + thread_bytes() * std::size_t(threads_);
  const bool made_together = made_ && panel_groups_ > 1;
  if (made_together)
    core::parallel_for(linear_.rows, threads_, [&](std::int64_t row, int) {
      make_rows(run.src, row, row + 1, shared + row * stride);
    });
  core::parallel_for(tasks, threads_, [&](std::int64_t task, int thread) {
    const std::int64_t rows = task / panel_groups_, panels = task % panel_groups_;
    const std::int64_t block = bound(blocks_, row_groups_, rows),
                       block_end = bound(blocks_, row_groups_, rows + 1);
    const std::int64_t panel = bound(panels_, panel_groups_, panels),
                       panel_end = bound(panels_, panel_groups_, panels + 1);
    std::byte* const sums = scratch + thread_bytes() * std::size_t(thread);
    Operand operand{made_together ? shared : run.src.bytes(), stride};
    if (made_ && !made_together) {
      std::byte* const own = sums + sums_bytes();
      const std::int64_t first = tile_row(2 * block), end = tile_row(2 * block_end - 1) + height_;
      make_rows(run.src, first, end, own);
      operand.data = own - first * stride;
    }
    Walk walk(*this, run, operand, sums, run.prefetch.part(task, tasks));
    walk.run(panel, panel_end, block, block_end);
    walk.finish();
  });
}

}  // namespace

std::vector<std::string> amx_choices(const Linear& l, Features features) {
  if (!suffice(l, features)) return {};
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
      if (parts && groups == 1 && l.outputs * row > std::int64_t(l2))
        std::rotate(choices.begin(), choices.end() - 1, choices.end());
    }
  }
  return choices;
}

std::unique_ptr<Engine> amx_linear(const Linear& linear, NarrowWeights& weights, const Quantiser& copy,
                                   const std::string& choice, int threads, Features features) {
  Blocking blocking;
  if (!suffice(linear, features) || !parse(choice, blocking)) return nullptr;
  return std::make_unique<AmxEngine>(linear, weights, copy, blocking, threads, features);
}

}  // namespace replk::dense
