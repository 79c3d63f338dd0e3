#include "dense/narrow_product.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <cstdio>
#include <utility>

#include "core/cpu.hpp"
#include "core/threads.hpp"
#include "dense/operand.hpp"
#include "jit/gemm.hpp"
#include "jit/narrow_product.hpp"

namespace replk::dense {
namespace {

/// Products that one fp32 sum takes at most.
constexpr int longest_chain = 256;

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
    fill_channels(copy);
    for (int higher = 0; higher < (higher_ > 0 ? 2 : 1); higher++)
      for (int last = 0; last < 2; last++) make(higher, last);
  }

  std::string implementation() const override { return fmt::format("product:{}", dot_.name); }
  std::size_t scratch_bytes() const override {
    return operand_bytes() + (widens() ? std::size_t(threads_) * wide_bytes() : 0);
  }

  void run(const LinearRun& r) const override {
    Operands a{static_cast<const std::byte*>(r.src), linear_.inputs * std::int64_t(size_of(linear_.src))};
    if (converts_) a = convert(a, static_cast<std::byte*>(r.scratch));
    core::parallel_for(blocks_ * groups_, threads_, [&](std::int64_t task, int thread) {
      const std::int64_t tasks = blocks_ * groups_, bytes = std::ssize(r.next);
      const std::int64_t from = bound(bytes, tasks, task);
      std::span<const std::byte> later =
          r.next.subspan(std::size_t(from), std::size_t(bound(bytes, tasks, task + 1) - from));
      const std::int64_t block = task / groups_, group = task % groups_;
      const std::int64_t first = bound(tiles_, blocks_, block), end = bound(tiles_, blocks_, block + 1);
      const std::int64_t middle = std::clamp(higher_, first, end);
      for (std::int64_t p = bound(panels_, groups_, group); p < bound(panels_, groups_, group + 1); p++) {
        const void* panel = weights_->data() + std::size_t(p) * narrow_.panel_bytes(layout_);
        if (widens()) {
          auto* to = reinterpret_cast<float*>(static_cast<std::byte*>(r.scratch) + operand_bytes() +
                                              std::size_t(thread) * wide_bytes());
          widen_panel(panel, padded_, panel_, to);
          panel = to;
        }
        tiles(r, a, panel, p, first, middle, true, later);
        tiles(r, a, panel, p, middle, end, false, later);
      }
    });
  }

 private:
  struct Operands {
    const std::byte* data;
    std::int64_t stride;
  };

  bool widens() const { return dot_.dot == jit::NarrowDot::fma; }
  std::size_t operand_bytes() const {
    return converts_ ? core::round_up(std::size_t(linear_.rows * a_stride_), core::alignment) : 0;
  }
  /// Of a widened panel, with a gap to the next thread's.
  std::size_t wide_bytes() const {
    const std::size_t bytes = core::round_up(std::size_t(padded_) * std::size_t(panel_) * 4, core::alignment);
    return bytes + (threads_ > 1 ? core::scratch_gap : 0);
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

  void make(bool higher, bool last_panel) {
    jit::NarrowProductSpec spec;
    spec.isa = dot_.isa;
    spec.dot = dot_.dot;
    spec.rows = height_ + higher;
    spec.columns = last_panel ? int(linear_.outputs - (panels_ - 1) * panel_) : panel_;
    const int chain = longest_chain / jit::narrow_group(dot_.dot);
    spec.chain = !jit::sums_integers(dot_.dot) && steps() > chain ? chain : 0;
    spec.outputs = {jit::sums_integers(dot_.dot), linear_.activation, linear_.residual, linear_.result,
                    linear_.copy};
    code_[higher][last_panel] = jit::narrow_product_code(spec);
  }

  std::int64_t steps() const { return padded_ / jit::narrow_group(dot_.dot); }

  Operands convert(const Operands& src, std::byte* scratch) const {
    constexpr std::int64_t rows_of_task = 32;
    core::parallel_for(
        (linear_.rows + rows_of_task - 1) / rows_of_task, threads_, [&](std::int64_t task, int) {
          const std::int64_t first = task * rows_of_task, rows = std::min(rows_of_task, linear_.rows - first);
          make_operand(dot_.operand, linear_.src, src.data + first * src.stride, rows, linear_.inputs,
                       layout_.multiple, narrow_.input(), scratch + first * a_stride_, a_stride_);
        });
    return {scratch, a_stride_};
  }

  void tiles(const LinearRun& r, const Operands& a, const void* panel, std::int64_t p, std::int64_t first,
             std::int64_t end, bool higher, std::span<const std::byte>& later) const {
    if (first == end) return;
    const std::int64_t row = first * height_ + std::min(first, higher_),
                       at = row * linear_.outputs + p * panel_;
    jit::NarrowProductArguments arguments{};
    arguments.a = a.data + row * a.stride;
    arguments.panel = panel;
    arguments.channels = channels_.data() + p * jit::narrow_channel_rows * panel_;
    arguments.dst = r.dst ? r.dst + at : nullptr;
    arguments.residual = r.residual ? r.residual + at : nullptr;
    arguments.copy =
        r.copy ? static_cast<std::byte*>(r.copy) + at * std::int64_t(size_of(linear_.copy)) : nullptr;
    arguments.a_stride = a.stride;
    arguments.dst_stride = linear_.outputs * std::int64_t(sizeof(float));
    arguments.copy_stride = linear_.outputs * std::int64_t(size_of(linear_.copy));
    arguments.steps = steps();
    arguments.tiles = end - first;
    // All of the next panel in the time of this one; behind the last it stands still.
    const std::int64_t bytes = std::int64_t(narrow_.panel_bytes(layout_));
    const std::int64_t times =
        arguments.tiles * std::max<std::int64_t>(1, arguments.steps / jit::gemm_unroll);
    const bool more = p + 1 < panels_;
    arguments.prefetch = weights_->data() + (more ? p + 1 : p) * bytes;
    arguments.prefetch_step = more ? std::max<std::int64_t>(1, bytes / times) : 0;
    constexpr std::int64_t line = 64;
    const std::int64_t lines = arguments.tiles * (arguments.steps / jit::gemm_unroll);
    const bool enough = std::ssize(later) >= lines * line;
    arguments.later = reinterpret_cast<const char*>(enough ? later.data() : weights_->data());
    arguments.later_step = enough ? line : 0;
    code_[higher][p + 1 == panels_]->entry<jit::NarrowProductKernel>()(&arguments);
    if (enough) later = later.subspan(std::size_t(lines * line));
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
  std::shared_ptr<const jit::Code> code_[2][2];
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
    for (const std::int64_t share : {2, 4}) {
      const std::int64_t rows = std::max<std::int64_t>(24, std::int64_t(core::cpu().l2_bytes) / share / row);
      if (share == 2 || rows < l.rows)
        choices.push_back(Blocking{&dot, int(std::min<std::int64_t>(rows, 1 << 20))}.text());
    }
  }
  return choices;
}

std::unique_ptr<Engine> product_linear(const Linear& linear, NarrowWeights& weights, const Quantiser& copy,
                                       const std::string& choice, int threads, Features features) {
  Blocking blocking;
  if (!parse(choice, linear.precision, features, blocking)) return nullptr;
  return std::make_unique<ProductEngine>(linear, weights, copy, blocking, threads);
}

}  // namespace replk::dense
