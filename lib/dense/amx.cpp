#include "dense/amx.hpp"

#include <algorithm>
#include <bit>

#include "core/half.hpp"
#include "core/threads.hpp"
#include "jit/tile_operand.hpp"

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

/// Calls put(tile, byte, output, input) for every element of panels: `tile` counts pairs of tiles, one a
/// step.
template <class Put>
void for_elements(int inputs, int outputs, int per_word, Put put) {
  const std::int64_t step = 16 * per_word, steps = quotient_up(inputs, step),
                     panels = quotient_up(outputs, jit::tile_panel);
  core::parallel_for(panels, 0, [&](std::int64_t panel, int) {
    const int first = int(panel) * jit::tile_panel, end = std::min(outputs, first + jit::tile_panel);
    for (int o = first; o < end; o++)
      for (int i = 0; i < inputs; i++) {
        const int column = o - first, row = i % int(step) / per_word;
        const std::size_t at = std::size_t(column / 16) * jit::tile_bytes +
                               std::size_t(row) * jit::tile_line + std::size_t(column % 16) * 4 +
                               std::size_t(i % per_word) * (4 / per_word);
        put(panel * steps + i / step, at, std::size_t(o) * inputs + i);
      }
  });
}

TilePanels empty_panels(Precision precision, int inputs, int outputs) {
  const std::int64_t steps = quotient_up(inputs, jit::tile_step(precision)),
                     panels = quotient_up(outputs, jit::tile_panel);
  return TilePanels(std::size_t(panels * steps * jit::tile_step_panel(precision)), true);
}

core::Buffer<float> padded(std::span<const float> values, std::size_t multiple) {
  core::Buffer<float> buffer(round_up(values.size(), multiple), true);
  std::copy(values.begin(), values.end(), buffer.begin());
  return buffer;
}

}  // namespace

TilePanels tile_panels(Precision precision, int inputs, int outputs, std::span<const float> weights) {
  TilePanels panels = empty_panels(precision, inputs, outputs);
  const std::size_t step = jit::tile_step_panel(precision);
  for_elements(inputs, outputs, 2, [&](std::int64_t tile, std::size_t at, std::size_t from) {
    const auto high = core::from_float<core::Bf16>(weights[from]);
    std::byte* const to = panels.data() + std::size_t(tile) * step + at;
    std::memcpy(to, &high, sizeof high);
    if (precision != Precision::bf16x3) return;
    const auto low = core::from_float<core::Bf16>(weights[from] - core::to_float(high));
    std::memcpy(to + 2 * jit::tile_bytes, &low, sizeof low);
  });
  return panels;
}

TilePanels tile_panels(int inputs, int outputs, std::span<const std::int8_t> weights) {
  TilePanels panels = empty_panels(Precision::int8, inputs, outputs);
  const std::size_t step = jit::tile_step_panel(Precision::int8);
  for_elements(inputs, outputs, 4, [&](std::int64_t tile, std::size_t at, std::size_t from) {
    panels[std::size_t(tile) * step + at] = std::byte(weights[from]);
  });
  return panels;
}

TileProduct::TileProduct(const TileLayer& layer, std::shared_ptr<const TilePanels> weights,
                         const TileConstants& constants, TileBlocking blocking, int threads,
                         Features features)
    : layer_(layer),
      threads_(threads),
      weights_(std::move(weights)),
      bias_(padded(constants.bias, jit::tile_panel)),
      multiplier_(padded(constants.multiplier, jit::tile_panel)),
      src_scale_(padded(constants.src_scale, 1)),
      src_offset_(padded(constants.src_offset, 1)),
      copy_scale_(padded(constants.copy_scale, jit::tile_panel)),
      copy_offset_(padded(constants.copy_offset, jit::tile_panel)),
      zeros_(jit::tile_sums_line, true) {
  const int step = jit::tile_step(layer.precision);
  steps_ = int(quotient_up(layer.inputs, step));
  parts_ = int(quotient_up(steps_, std::max(1, blocking.depth / step)));
  choose_tiles(layer.rows);
  panels_ = quotient_up(layer.outputs, jit::tile_panel);
  row_groups_ = std::clamp<std::int64_t>(quotient_up(layer.rows, blocking.rows), 1, blocks_);
  // Groups that do not share out evenly are cut across the panels as well.
  panel_groups_ = threads_ > 1 && row_groups_ % threads_ != 0 ? std::min<std::int64_t>(threads_, panels_) : 1;
  const int size = layer.precision == Precision::int8 ? 1 : 2;
  made_ = layer.src == Element::f32 || layer.inputs % step != 0;
  operand_stride_ = made_ ? std::int64_t(steps_) * jit::tile_step_bytes(layer.precision)
                          : std::int64_t(layer.inputs) * size;
  if (made_ && operand_stride_ % 512 == 0) operand_stride_ += jit::tile_line;  // else rows share few sets
  make_code(features);
}

/// Tiles of one height, for which the thread's palette is set once a run: the lowest that needs no more
/// tiles. The last tiles begin higher instead of being cut, and what they have in common with those before is
/// computed twice.
void TileProduct::choose_tiles(std::int64_t rows) {
  const std::int64_t tiles = 2 * quotient_up(rows, jit::tile_block_rows);
  height_ = int(quotient_up(rows, tiles));
  blocks_ = quotient_up(rows, 2 * height_);
}

std::int64_t TileProduct::tile_row(std::int64_t tile) const {
  return std::min(tile * height_, layer_.rows - height_);
}

void TileProduct::make_code(Features features) {
  const bool native_bf16 = features.has(Feature::avx512_bf16);
  const std::int64_t group_blocks = quotient_up(blocks_, row_groups_);
  const std::int64_t lines = jit::tile_step_panel(layer_.precision) / jit::tile_line;
  constexpr int most_rows_per_step = 8;  // beside one step: more would only be more code
  rows_per_step_ =
      int(std::min<std::int64_t>(quotient_up(2 * height_, quotient_up(steps_, parts_)), most_rows_per_step));
  prefetch_lines_ = int(quotient_up(lines, group_blocks));
  jit::TileProductSpec spec;
  spec.precision = layer_.precision;
  spec.rows_per_step = rows_per_step_;
  spec.activation = layer_.activation;
  spec.residual = layer_.residual;
  spec.result = layer_.result;
  spec.copy = layer_.copy;
  spec.native_bf16 = native_bf16;
  spec.prefetch_lines = prefetch_lines_;
  product_ = jit::tile_product_code(spec);
  configure_ = jit::tile_configure_code();
  release_ = jit::tile_release_code();
  if (made_)
    operand_ =
        jit::tile_operand_code({layer_.precision, layer_.src == Element::f32, layer_.inputs, native_bf16});
}

/// Of one thread: the sums of its blocks, and its rows of the operand where it makes them itself.
std::size_t TileProduct::thread_bytes() const {
  const std::size_t group_blocks = std::size_t(quotient_up(blocks_, row_groups_)) + 1;
  const std::size_t sums = jit::tile_block_rows * jit::tile_sums_line;
  const std::size_t rows = made_ && panel_groups_ == 1 ? group_blocks * 2 * height_ : 0;
  return round_up((parts_ > 1 ? group_blocks : 1) * sums + rows * std::size_t(operand_stride_), 4096) +
         core::scratch_gap;
}

std::size_t TileProduct::scratch_bytes() const {
  const std::size_t shared = made_ && panel_groups_ > 1 ? std::size_t(layer_.rows * operand_stride_) : 0;
  return shared + thread_bytes() * std::size_t(threads_);
}

void TileProduct::make_rows(const void* src, std::int64_t first, std::int64_t end, std::byte* to) const {
  const std::int64_t element = layer_.src == Element::f32 ? 4 : layer_.precision == Precision::int8 ? 1 : 2;
  jit::TileOperandArguments arguments;
  arguments.src_stride = layer_.inputs * element;
  arguments.src = static_cast<const std::byte*>(src) + first * arguments.src_stride;
  arguments.dst = to;
  arguments.rows = end - first;
  arguments.dst_stride = operand_stride_;
  arguments.scale = src_scale_.data();
  arguments.offset = src_offset_.data();
  operand_->entry<jit::TileOperandKernel>()(&arguments);
}

/// Goes over blocks and panels with the epilogue of each block behind: it is done beside the next block's
/// steps.
class TileProduct::Walk {
 public:
  Walk(const TileProduct& product, const TileRun& run, Operand operand, std::byte* sums,
       std::span<const std::byte> later)
      : product_(product), layer_(product.layer_), run_(run), operand_(operand), sums_(sums), later_(later) {
    arguments_.a_stride = operand.stride;
    arguments_.done = sums;  // no rows yet; constants are loaded all the same
    arguments_.multiplier = arguments_.bias = arguments_.scale = arguments_.offset =
        reinterpret_cast<const float*>(product.zeros_.data());
    arguments_.dst_stride = layer_.outputs * std::int64_t(sizeof(float));
    arguments_.copy_stride = layer_.outputs * copy_size();
    const jit::TilePalette palette(product.height_);
    product.configure_->entry<jit::TileConfigure>()(&palette);
  }
  ~Walk() { product_.release_->entry<jit::TileRelease>()(); }
  Walk(const Walk&) = delete;
  Walk& operator=(const Walk&) = delete;

  void panel(std::int64_t panel, bool more, std::int64_t block, std::int64_t block_end) {
    const std::int64_t bytes = product_.steps_ * std::int64_t(jit::tile_step_panel(layer_.precision));
    const std::byte* const weights = product_.weights_->data() + panel * bytes;
    ahead_ = more ? std::span(weights + bytes, std::size_t(bytes)) : std::span<const std::byte>{};
    for (int part = 0; part < product_.parts_; part++)
      for (std::int64_t b = block; b < block_end; b++) {
        const bool own = product_.parts_ > 1;  // partial sums wait, each block's in its place
        add_part(weights, part, b, panel,
                 sums_ + (own ? (b - block) * jit::tile_block_rows : 0) * jit::tile_sums_line);
        if (part + 1 == product_.parts_) leave(b, panel);
      }
  }

  /// The epilogue of the last block.
  void finish() {
    arguments_.sums0 = nullptr;
    call(0);
  }

 private:
  std::int64_t copy_size() const { return layer_.copy == Element::u8 ? 1 : 2; }

  void add_part(const std::byte* weights, int part, std::int64_t block, std::int64_t panel, std::byte* sums) {
    const std::int64_t first = bound(product_.steps_, product_.parts_, part),
                       end = bound(product_.steps_, product_.parts_, part + 1);
    const std::int64_t row0 = product_.tile_row(2 * block), row1 = product_.tile_row(2 * block + 1);
    const std::byte* const a = operand_.data + first * jit::tile_step_bytes(layer_.precision);
    arguments_.a0 = a + row0 * operand_.stride;
    arguments_.a1 = a + row1 * operand_.stride;
    arguments_.panel = weights + first * jit::tile_step_panel(layer_.precision);
    arguments_.sums0 = sums;
    arguments_.sums1 = sums + (row1 - row0) * jit::tile_sums_line;
    const bool biased = layer_.precision != Precision::int8 && product_.bias_.size() > 0;
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
    arguments_.prefetch_advance = take(ahead_, steps, product_.prefetch_lines_ * line, arguments_.prefetch);
    arguments_.later_advance = take(later_, steps, line, arguments_.later);
    product_.product_->entry<jit::TileProductKernel>()(&arguments_);
  }

  /// What `steps` steps bring near, taken from the front of `from`; they stand still where less is left.
  std::int64_t take(std::span<const std::byte>& from, std::int64_t steps, std::int64_t each,
                    const void*& begin) {
    const std::int64_t bytes = steps * each;
    if (from.empty() || std::ssize(from) < bytes || bytes == 0) {
      begin = product_.weights_->data();
      return 0;
    }
    begin = from.data();
    from = from.subspan(std::size_t(bytes));
    return each;
  }

  /// The block just summed waits for its epilogue: those of its rows that no block before it had.
  void leave(std::int64_t block, std::int64_t panel) {
    const std::int64_t first = 2 * block * product_.height_, row0 = product_.tile_row(2 * block),
                       end = product_.tile_row(2 * block + 1) + product_.height_;
    const std::int64_t output = panel * jit::tile_panel, at = first * layer_.outputs + output;
    waiting_ = end - first;
    arguments_.done = static_cast<std::byte*>(arguments_.sums0) + (first - row0) * jit::tile_sums_line;
    arguments_.dst = layer_.result ? run_.dst + at : nullptr;
    arguments_.residual = layer_.residual ? run_.residual + at : nullptr;
    arguments_.copy =
        layer_.copy != Element::f32 ? static_cast<std::byte*>(run_.copy) + at * copy_size() : nullptr;
    const auto of_panel = [&](const core::Buffer<float>& values) {
      return values.size() > 0 ? values.data() + output
                               : reinterpret_cast<const float*>(product_.zeros_.data());
    };
    arguments_.multiplier = of_panel(product_.multiplier_);
    arguments_.bias = of_panel(product_.bias_);
    arguments_.scale = of_panel(product_.copy_scale_);
    arguments_.offset = of_panel(product_.copy_offset_);
    const std::int64_t columns = std::min<std::int64_t>(jit::tile_panel, layer_.outputs - output);
    arguments_.columns = (std::uint64_t{1} << columns) - 1;
  }

  const TileProduct& product_;
  const TileLayer& layer_;
  const TileRun& run_;
  Operand operand_;
  std::byte* sums_;
  std::span<const std::byte> ahead_, later_;
  std::int64_t waiting_ = 0;  // rows of the block before
  jit::TileProductArguments arguments_ = {};
};

void TileProduct::run(const TileRun& run) const {
  const std::int64_t tasks = row_groups_ * panel_groups_, stride = operand_stride_;
  std::byte* const scratch = static_cast<std::byte*>(run.scratch);
  std::byte* const shared = scratch + thread_bytes() * std::size_t(threads_);
  const bool made_together = made_ && panel_groups_ > 1;
  if (made_together)
    core::parallel_for(layer_.rows, threads_, [&](std::int64_t row, int) {
      make_rows(run.src, row, row + 1, shared + row * stride);
    });
  core::parallel_for(tasks, threads_, [&](std::int64_t task, int thread) {
    const std::int64_t rows = task / panel_groups_, panels = task % panel_groups_;
    const std::int64_t block = bound(blocks_, row_groups_, rows),
                       block_end = bound(blocks_, row_groups_, rows + 1);
    const std::int64_t panel = bound(panels_, panel_groups_, panels),
                       panel_end = bound(panels_, panel_groups_, panels + 1);
    std::byte* const sums = scratch + thread_bytes() * std::size_t(thread);
    Operand operand{made_together ? shared : static_cast<const std::byte*>(run.src), stride};
    if (made_ && !made_together) {
      const std::int64_t group_blocks = parts_ > 1 ? quotient_up(blocks_, row_groups_) + 1 : 1;
      std::byte* const own = sums + group_blocks * jit::tile_block_rows * jit::tile_sums_line;
      const std::int64_t first = tile_row(2 * block), end = tile_row(2 * block_end - 1) + height_;
      make_rows(run.src, first, end, own);
      operand.data = own - first * stride;
    }
    const std::int64_t from = bound(std::ssize(run.next), tasks, task),
                       to = bound(std::ssize(run.next), tasks, task + 1);
    Walk walk(*this, run, operand, sums, run.next.subspan(std::size_t(from), std::size_t(to - from)));
    for (std::int64_t p = panel; p < panel_end; p++) walk.panel(p, p + 1 < panel_end, block, block_end);
    walk.finish();
  });
}

}  // namespace replk::dense
