#include "dense/narrow_product.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <cstdio>
#include <utility>

#include "core/cpu.hpp"
#include "core/threads.hpp"
#include "dense/constants.hpp"
#include "dense/operand.hpp"
#include "jit/kernels/gemm.hpp"
#include "jit/kernels/narrow_product.hpp"

namespace replk::dense {
namespace {

/// A way to multiply. The first of a precision that the features allow is the analytic pick.
struct Dot {
  const char* name;
  Precision precision;
  jit::NarrowDot dot;
  Isa isa;
  Features needs;
  Operand operand;
};
constexpr Features wide = Feature::avx2 | Feature::avx512;
constexpr Dot dots[] = {
    {"avx512_vnni", Precision::int8, jit::NarrowDot::vpdpbusd, Isa::avx512, wide | Feature::avx512_vnni,
     Operand::u8},
    {"avx_vnni", Precision::int8, jit::NarrowDot::vpdpbusd_vex, Isa::avx2, Feature::avx2 | Feature::avx_vnni,
     Operand::u8},
    {"avx512", Precision::int8, jit::NarrowDot::vpmaddwd, Isa::avx512, wide, Operand::s16},
    {"avx2", Precision::int8, jit::NarrowDot::vpmaddwd, Isa::avx2, Feature::avx2, Operand::s16},
    {"avx512_bf16", Precision::bf16, jit::NarrowDot::vdpbf16ps, Isa::avx512, wide | Feature::avx512_bf16,
     Operand::bf16},
    {"avx512", Precision::bf16, jit::NarrowDot::fma, Isa::avx512, wide, Operand::f32},
    {"avx2", Precision::bf16, jit::NarrowDot::fma, Isa::avx2, Feature::avx2, Operand::f32},
};

struct Blocking {
  const Dot* dot = nullptr;
  int rows = 0;  // of a block, at most
  std::string text() const { return fmt::format("product dot={} rows={}", dot->name, rows); }
};

bool parse(const std::string& text, Precision precision, Features features, Blocking& blocking) {
  char name[20];
  int end = 0;
  if (std::sscanf(text.c_str(), "product dot=%19[a-z0-9_] rows=%7d%n", name, &blocking.rows, &end) != 2 ||
      std::size_t(end) != text.size() || blocking.rows < 1)
    return false;
  for (const Dot& dot : dots)
    if (dot.precision == precision && std::string_view(dot.name) == name && features.has(dot.needs))
      blocking.dot = &dot;
  return blocking.dot != nullptr;
}

/// [0, total) in `parts` nearly equal ranges.
std::int64_t bound(std::int64_t total, std::int64_t parts, std::int64_t i) {
  return total * i / parts;
}

/// The fp32 product's tiles and blocks (gemm.cpp), the reduction in one: a panel is a quarter as large. What
/// is not yet an operand becomes one first, all rows of it.
class ProductEngine final : public Engine {
 public:
  ProductEngine(const Linear& l, NarrowWeights& weights, const Quantiser& copy, Blocking blocking,
                int threads)
      : linear_(l),
        dot_(*blocking.dot),
        panel_(jit::gemm_panel(dot_.isa)),
        threads_(threads),
        narrow_(weights),
        layout_{panel_, dot_.precision == Precision::bf16 ? 2 : jit::narrow_group(dot_.dot),
                dot_.precision == Precision::bf16 ? 2 : jit::narrow_group(dot_.dot)},
        weights_(weights.panels(layout_)),
        padded_(std::int64_t(core::round_up(std::size_t(l.inputs), std::size_t(layout_.multiple)))) {
    const int height = jit::gemm_max_rows(dot_.isa);
    tiles_ = (l.rows + height - 1) / height;
    height_ = int(l.rows / tiles_);
    higher_ = l.rows % tiles_;
    blocks_ = std::clamp<std::int64_t>((l.rows + blocking.rows - 1) / blocking.rows, 1, tiles_);
    panels_ = (l.outputs + panel_ - 1) / panel_;
    // Blocks that do not share out evenly are cut across the panels as well.
    groups_ = threads_ > 1 && blocks_ % threads_ != 0 ? std::min<std::int64_t>(threads_, panels_) : 1;
    converts_ = l.src == Element::f32 || dot_.operand == Operand::s16 || dot_.operand == Operand::f32 ||
                padded_ != l.inputs;
    a_stride_ = padded_ * std::int64_t(size_of(dot_.operand));
    // Rows of a tile a power of two apart would share one set of the L1.
    if (a_stride_ % constants.set_bytes == 0) a_stride_ += std::int64_t(core::alignment);
    parts_ = jit::sums_integers(dot_.dot)
                 ? 1
                 : (units() * unit + constants.narrow_chain - 1) / constants.narrow_chain;
    fill_channels(copy);
    for (int part = 0; part < parts_; part++)
      for (int higher = 0; higher < (higher_ > 0 ? 2 : 1); higher++)
        for (int last = 0; last < 2; last++) make(part, higher, last);
  }

  std::string implementation() const override { return fmt::format("product:{}", dot_.name); }
  std::size_t scratch_bytes() const override { return shared_bytes() + std::size_t(threads_) * own_bytes(); }

  void run(const LinearRun& r) const override {
    Operands a{r.src.bytes(), linear_.inputs * std::int64_t(size_of(r.src.type()))};
    auto* const scratch = static_cast<std::byte*>(r.scratch);
    if (converts_ && groups_ > 1) a = convert_all(r.src, scratch);
    core::parallel_for(blocks_ * groups_, threads_, [&](std::int64_t task, int thread) {
      core::Prefetch prefetch = r.prefetch.part(task, blocks_ * groups_);
      const std::int64_t block = task / groups_, group = task % groups_;
      Block work{bound(tiles_, blocks_, block), bound(tiles_, blocks_, block + 1), a,
                 scratch + shared_bytes() + std::size_t(thread) * own_bytes()};
      if (converts_ && groups_ == 1) convert(r.src, work);
      for (std::int64_t p = bound(panels_, groups_, group); p < bound(panels_, groups_, group + 1); p++)
        for (int part = 0; part < parts_; part++) multiply(r, work, p, part, prefetch);
    });
  }

 private:
  struct Operands {
    const std::byte* data;
    std::int64_t stride;
  };

  /// Tiles [first, end), and where a thread works on them.
  struct Block {
    std::int64_t first, end;
    Operands a;            // of all rows, once converted of those of the block
    std::byte* scratch;    // operands, a widened part of a panel, sums that wait
    std::int64_t row = 0;  // the first in a
  };

  /// Parts of the reduction are cut between units.
  static constexpr std::int64_t unit = constants.part_unit;
  std::int64_t units() const { return (padded_ + unit - 1) / unit; }
  std::int64_t part_begin(std::int64_t part) const {
    return std::min(padded_, bound(units(), parts_, part) * unit);
  }

  bool widens() const { return dot_.dot == jit::NarrowDot::fma; }
  std::int64_t first_row(std::int64_t tile) const { return tile * height_ + std::min(tile, higher_); }
  std::size_t block_rows() const {
    return std::size_t((tiles_ + blocks_ - 1) / blocks_ * (height_ + (higher_ > 0)));
  }
  static std::size_t aligned(std::size_t bytes) { return core::round_up(bytes, core::alignment); }
  /// Operands that threads share.
  std::size_t shared_bytes() const {
    return converts_ && groups_ > 1 ? aligned(std::size_t(linear_.rows * a_stride_)) : 0;
  }
  std::size_t operand_bytes() const {
    return converts_ && groups_ == 1 ? aligned(block_rows() * std::size_t(a_stride_)) : 0;
  }
  std::size_t wide_bytes() const {
    return widens()
               ? aligned(std::size_t(std::min<std::int64_t>(constants.narrow_chain, padded_) * panel_) * 4)
               : 0;
  }
  /// Of one thread, with a gap to the next one's.
  std::size_t own_bytes() const {
    const std::size_t waiting = parts_ > 1 ? block_rows() * std::size_t(panel_) * 4 : 0;
    const std::size_t bytes = operand_bytes() + wide_bytes() + aligned(waiting);
    return bytes + (bytes > 0 && threads_ > 1 ? core::scratch_gap : 0);
  }

  void fill_channels(const Quantiser& copy) {
    const std::size_t width = std::size_t(panel_);
    channels_ = core::Buffer<float>(std::size_t(panels_) * jit::narrow_channel_rows * width, true);
    for (std::size_t o = 0; o < std::size_t(linear_.outputs); o++) {
      float* of = channels_.data() + o / width * jit::narrow_channel_rows * width + o % width;
      of[jit::multiplier_row * width] = narrow_.multiplier()[o];
      of[jit::bias_row * width] = narrow_.bias()[o];
      if (linear_.copy != Element::u8) continue;
      of[jit::scale_row * width] = copy.scale[o];
      of[jit::offset_row * width] = copy.offset[o];
    }
  }

  /// Which of the prepared kernels: parts between the first and the last are alike.
  const std::shared_ptr<const jit::Code>& code(int part, bool higher, bool last_panel) const {
    return code_[part == 0 ? 0 : part + 1 < parts_ ? 1 : 2][higher][last_panel];
  }

  void make(int part, bool higher, bool last_panel) {
    if (code(part, higher, last_panel)) return;
    jit::NarrowProductSpec spec;
    spec.isa = dot_.isa;
    spec.dot = dot_.dot;
    spec.rows = height_ + higher;
    spec.columns = last_panel ? int(linear_.outputs - (panels_ - 1) * panel_) : panel_;
    spec.first = part == 0;
    spec.last = part + 1 == parts_;
    spec.outputs = {jit::sums_integers(dot_.dot), linear_.activation, linear_.residual, linear_.result,
                    linear_.copy};
    code_[part == 0 ? 0 : spec.last ? 2 : 1][higher][last_panel] = jit::narrow_product_code(spec);
  }

  void convert_rows(ConstValues src, std::int64_t first, std::int64_t rows, std::byte* to) const {
    make_operand(dot_.operand, src + first * linear_.inputs, rows, linear_.inputs, layout_.multiple,
                 narrow_.input(), to, a_stride_);
  }

  Operands convert_all(ConstValues src, std::byte* scratch) const {
    constexpr std::int64_t rows_of_task = constants.converted_rows;
    core::parallel_for(
        (linear_.rows + rows_of_task - 1) / rows_of_task, threads_, [&](std::int64_t task, int) {
          const std::int64_t first = task * rows_of_task;
          convert_rows(src, first, std::min(rows_of_task, linear_.rows - first), scratch + first * a_stride_);
        });
    return {scratch, a_stride_};
  }

  void convert(ConstValues src, Block& work) const {
    work.row = first_row(work.first);
    convert_rows(src, work.row, first_row(work.end) - work.row, work.scratch);
    work.a = {work.scratch, a_stride_};
  }

  /// One part of one panel against a block.
  void multiply(const LinearRun& r, const Block& work, std::int64_t p, int part,
                core::Prefetch& prefetch) const {
    const std::int64_t input = part_begin(part), inputs = part_begin(part + 1) - input;
    const void* panel = weights_->data() + std::size_t(p) * narrow_.panel_bytes(layout_) +
                        std::size_t(input * panel_) * narrow_.element_bytes();
    const void* weights = panel;
    if (widens()) {
      auto* const wide = reinterpret_cast<float*>(work.scratch + operand_bytes());
      widen_panel(panel, inputs, panel_, wide);
      weights = wide;
    }
    const std::int64_t middle = std::clamp(higher_, work.first, work.end);
    tiles(r, work, weights, panel, p, part, work.first, middle, true, prefetch);
    tiles(r, work, weights, panel, p, part, middle, work.end, false, prefetch);
  }

  void tiles(const LinearRun& r, const Block& work, const void* weights, const void* panel, std::int64_t p,
             int part, std::int64_t first, std::int64_t end, bool higher, core::Prefetch& prefetch) const {
    if (first == end) return;
    const std::int64_t row = first_row(first), at = row * linear_.outputs + p * panel_;
    const std::int64_t input = part_begin(part), inputs = part_begin(part + 1) - input;
    jit::NarrowProductArguments arguments{};
    arguments.a =
        work.a.data + (row - work.row) * work.a.stride + input * std::int64_t(size_of(dot_.operand));
    arguments.panel = weights;
    arguments.channels = channels_.data() + p * jit::narrow_channel_rows * panel_;
    arguments.dst = r.dst ? r.dst + at : nullptr;
    arguments.residual = r.residual ? r.residual + at : nullptr;
    arguments.copy = r.copy ? (r.copy + at).bytes() : nullptr;
    arguments.a_stride = work.a.stride;
    arguments.dst_stride = linear_.outputs * std::int64_t(sizeof(float));
    arguments.copy_stride = linear_.outputs * std::int64_t(size_of(linear_.copy));
    arguments.steps = inputs / jit::narrow_group(dot_.dot);
    arguments.tiles = end - first;
    arguments.waiting = reinterpret_cast<float*>(work.scratch + operand_bytes() + wide_bytes()) +
                        (row - first_row(work.first)) * panel_;
    // All of the next panel's part in the time of this one; behind the last it stands still.
    const std::int64_t bytes = inputs * panel_ * std::int64_t(narrow_.element_bytes());
    const std::int64_t times =
        arguments.tiles * std::max<std::int64_t>(1, arguments.steps / jit::gemm_unroll);
    const bool more = p + 1 < panels_;
    arguments.prefetch =
        static_cast<const std::byte*>(panel) + (more ? std::int64_t(narrow_.panel_bytes(layout_)) : 0);
    arguments.prefetch_step = more ? std::max<std::int64_t>(1, bytes / times) : 0;
    const auto [later, step] = prefetch.take(arguments.tiles * (arguments.steps / jit::gemm_unroll),
                                             core::alignment, weights_->data());
    arguments.later = later;
    arguments.later_step = step;
    code(part, higher, p + 1 == panels_)->entry<jit::NarrowProductKernel>()(&arguments);
  }

  Linear linear_;
  const Dot& dot_;
  int panel_, threads_;
  NarrowWeights& narrow_;
  NarrowWeights::Panels layout_;
  NarrowWeights::Form weights_;
  std::int64_t padded_;           // inputs, to whole steps
  core::Buffer<float> channels_;  // [panel][narrow_channel_rows][width]
  std::int64_t tiles_ = 1;  // register tiles below each other: `higher_` of height_ + 1 rows, then of height_
  int height_ = 1;
  std::int64_t higher_ = 0;
  std::int64_t blocks_ = 1, panels_ = 1, groups_ = 1;
  bool converts_ = false;  // src becomes the operand first
  std::int64_t a_stride_ = 0;
  std::int64_t parts_ = 1;  // of the reduction
  std::shared_ptr<const jit::Code> code_[3][2][2];
};

}  // namespace

std::vector<std::string> product_choices(const Linear& l, Features features) {
  std::vector<std::string> choices;
  const Dot* first = nullptr;
  for (const Dot& dot : dots) {
    if (dot.precision != l.precision || !features.has(dot.needs)) continue;
    // Of int8 the instructions are ordered by speed on every CPU; bf16's dot is slower than fp32 on Intel.
    if (first && (l.precision == Precision::int8 || dot.isa != first->isa)) continue;
    if (!first) first = &dot;
    // What a block reads and writes in a narrow type stays in a part of the L2 while all panels pass.
    const std::int64_t row = std::int64_t{l.inputs} * std::int64_t(size_of(dot.operand)) +
                             (l.copy == Element::f32 ? 0 : l.outputs * std::int64_t(size_of(l.copy)));
    const std::int64_t l2 = std::int64_t(core::cpu().l2_bytes);
    // Each block widens all weights anew: one that holds all rows may fill most of the L2 (1.5 to 3 % faster
    // on RepLKNet-31B's 196 rows).
    if (dot.operand == Operand::f32 && l.rows * row > l2 / 2 && l.rows * row <= l2 / 8 * 7)
      choices.push_back(Blocking{&dot, int(l.rows)}.text());
    for (const std::int64_t share : {2, 4}) {
      const std::int64_t rows = std::max<std::int64_t>(24, l2 / share / row);
      if (share == 2 || rows < l.rows)
        choices.push_back(Blocking{&dot, int(std::min<std::int64_t>(rows, 1 << 20))}.text());
    }
  }
  // vdpbf16ps is four operations there, half as fast as the fp32 multiply-adds that do as much.
  if (core::cpu().vendor == "GenuineIntel")
    std::stable_partition(choices.begin(), choices.end(), [](const std::string& text) {
      return text.find("dot=avx512_bf16") == std::string::npos;
    });
  return choices;
}

std::unique_ptr<Engine> product_linear(const Linear& linear, NarrowWeights& weights, const Quantiser& copy,
                                       const std::string& choice, int threads, Features features) {
  Blocking blocking;
  if (!parse(choice, linear.precision, features, blocking)) return nullptr;
  return std::make_unique<ProductEngine>(linear, weights, copy, blocking, threads);
}

}  // namespace replk::dense
