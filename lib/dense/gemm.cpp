#include "dense/gemm.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cstdio>
#include <utility>

#include "core/cpu.hpp"
#include "core/threads.hpp"
#include "dense/constants.hpp"
#include "dense/weights.hpp"
#include "jit/kernels/gemm.hpp"

namespace replk::dense {
namespace {

struct Blocking {
  int depth = 0;  // inputs of a part of the reduction, at most
  int rows = 0;   // rows of a block, at most
  std::string text() const { return fmt::format("gemm depth={} rows={}", depth, rows); }
};

bool parse(const std::string& text, Blocking& blocking) {
  int end = 0;
  return std::sscanf(text.c_str(), "gemm depth=%7d rows=%7d%n", &blocking.depth, &blocking.rows, &end) == 2 &&
         std::size_t(end) == text.size() && blocking.depth >= 1 && blocking.depth <= constants.chain &&
         blocking.rows >= 1;
}

/// [0, total) in `parts` nearly equal ranges.
std::int64_t bound(std::int64_t total, std::int64_t parts, std::int64_t i) {
  return total * i / parts;
}

/// Rows go in register tiles of two heights that differ by one, so that no tile is much smaller than the
/// others: 49 rows are four of six and five of five, not eight of six and a single one. Tiles make blocks
/// whose pixels stay in the L2 while all panels of weights pass; a panel's part stays in the L1 while all
/// tiles of the block pass.
class GemmEngine final : public Engine {
 public:
  GemmEngine(const Linear& l, PackedWeights& weights, Blocking blocking, int threads)
      : linear_(l),
        isa_(core::cpu().isa),
        panel_(jit::gemm_panel(isa_)),
        threads_(threads),
        weights_(weights.panels(panel_, threads)),
        bias_(core::round_up(weights.bias().size(), panel_), true) {
    std::copy(weights.bias().begin(), weights.bias().end(), bias_.begin());
    // A residual behind an activation joins last, and dst may hold it until then: no room for parts.
    const bool whole = l.residual && l.activation != Activation::none;
    parts_ = whole ? 1 : (l.inputs + blocking.depth - 1) / blocking.depth;
    const int height = jit::gemm_max_rows(isa_);
    tiles_ = (l.rows + height - 1) / height;
    height_ = int(l.rows / tiles_);
    higher_ = l.rows % tiles_;
    blocks_ = std::max<std::int64_t>(1, (l.rows + blocking.rows - 1) / blocking.rows);
    blocks_ = std::min(blocks_, tiles_);
    panels_ = (l.outputs + panel_ - 1) / panel_;
    // Blocks that do not share out evenly are cut across the panels as well.
    groups_ = threads_ > 1 && blocks_ % threads_ != 0 ? std::min<std::int64_t>(threads_, panels_) : 1;
    for (int part = 0; part < parts_; part++)
      for (int higher = 0; higher < 2; higher++)
        for (int last = 0; last < 2; last++) make(part, higher, last);
  }

  std::string implementation() const override { return fmt::format("gemm:{}", name(isa_)); }
  std::size_t scratch_bytes() const override { return 0; }

  void run(const LinearRun& r) const override {
    const auto* const src = r.src.as<float>();
    core::parallel_for(blocks_ * groups_, threads_, [&](std::int64_t task, int) {
      core::Prefetch prefetch = r.prefetch.part(task, blocks_ * groups_);
      const std::int64_t block = task / groups_, group = task % groups_;
      const std::int64_t first = bound(tiles_, blocks_, block), end = bound(tiles_, blocks_, block + 1);
      const std::int64_t panel = bound(panels_, groups_, group),
                         panel_end = bound(panels_, groups_, group + 1);
      prefetch.delay((panel_end - panel) * (end - first) * (linear_.inputs / jit::gemm_unroll),
                     core::alignment);
      for (int part = 0; part < parts_; part++)
        for (std::int64_t p = panel; p < panel_end; p++) {
          const std::int64_t middle = std::clamp(higher_, first, end);
          tiles(src, r.dst, r.residual, part, p, first, middle, true, prefetch);
          tiles(src, r.dst, r.residual, part, p, middle, end, false, prefetch);
        }
    });
  }

 private:
  /// Which of the prepared kernels: parts between the first and the last are alike.
  int kernel_index(int part, bool higher, bool last_panel) const {
    const int phase = part == 0 ? 0 : part + 1 < parts_ ? 1 : 2;
    return (phase * 2 + higher) * 2 + last_panel;
  }

  void make(int part, bool higher, bool last_panel) {
    std::shared_ptr<const jit::Code>& code = code_[kernel_index(part, higher, last_panel)];
    if (code || (higher && higher_ == 0)) return;
    const bool first = part == 0, last = part + 1 == parts_;
    jit::GemmSpec spec;
    spec.isa = isa_;
    spec.rows = height_ + higher;
    spec.columns = last_panel ? int(linear_.outputs - (panels_ - 1) * panel_) : panel_;
    spec.add_c = !first;
    spec.bias = first && linear_.bias;
    spec.add_residual = first && linear_.residual && linear_.activation == Activation::none;
    spec.activation = last ? linear_.activation : Activation::none;
    spec.end_residual = last && linear_.residual && linear_.activation != Activation::none;
    code = jit::gemm_code(spec);
  }

  void tiles(const float* src, float* dst, const float* residual, int part, std::int64_t p,
             std::int64_t first, std::int64_t end, bool higher, core::Prefetch& prefetch) const {
    if (first == end) return;
    const std::int64_t row = first * height_ + std::min(first, higher_),
                       at = row * linear_.outputs + p * panel_;
    const std::int64_t input = bound(linear_.inputs, parts_, part);
    jit::GemmArguments arguments;
    arguments.a = src + row * linear_.inputs + input;
    arguments.panel = weights_->data() + (p * linear_.inputs + input) * panel_;
    arguments.c = dst + at;
    arguments.bias = bias_.data() + (bias_.size() ? p * panel_ : 0);
    arguments.residual = residual ? residual + at : nullptr;
    arguments.a_stride = linear_.inputs * std::int64_t(sizeof(float));
    arguments.c_stride = linear_.outputs * std::int64_t(sizeof(float));
    arguments.depth = bound(linear_.inputs, parts_, part + 1) - input;
    arguments.tiles = end - first;
    // All of the next panel's part in the time of this one; behind the last it stands still.
    const bool more = p + 1 < panels_;
    arguments.prefetch = arguments.panel + (more ? std::int64_t(linear_.inputs) * panel_ : 0);
    arguments.prefetch_step =
        more ? std::max<std::int64_t>(
                   1, jit::gemm_unroll * panel_ * std::int64_t(sizeof(float)) / arguments.tiles)
             : 0;
    const auto [later, step] = prefetch.take(arguments.tiles * (arguments.depth / jit::gemm_unroll),
                                             core::alignment, arguments.panel);
    arguments.later = later;
    arguments.later_step = step;
    code_[kernel_index(part, higher, p + 1 == panels_)]->entry<jit::GemmKernel>()(&arguments);
  }

  Linear linear_;
  Isa isa_;
  int panel_, threads_;
  PackedWeights::Form weights_;
  core::Buffer<float> bias_;  // padded to whole panels
  int parts_ = 1;
  std::int64_t tiles_ = 1;  // register tiles below each other: `higher_` of height_ + 1 rows, then of height_
  int height_ = 1;
  std::int64_t higher_ = 0;
  std::int64_t blocks_ = 1, panels_ = 1, groups_ = 1;
  std::shared_ptr<const jit::Code> code_[12];
};

}  // namespace

std::vector<std::string> gemm_choices(const Linear& l) {
  std::vector<std::string> choices;
  // Longer parts come back to c less often, shorter ones keep the panel's part in the L1. Which comes first
  // is measured: on AVX-512 a part of 384 was up to 11 % faster than one of 256 and never more than 1.5 %
  // slower.
  const std::array<int, 3> depths =
      core::cpu().isa == Isa::avx512 ? std::array{384, 512, 256} : std::array{256, 512, 384};
  for (const int depth : depths) {
    if (depth != 256 && depth >= 2 * l.inputs) continue;
    // Half of the L2 for the block's pixels: a part of the panel and what is written pass through the rest.
    const std::int64_t used = std::min(depth, l.inputs);
    const std::int64_t rows = std::max<std::int64_t>(24, std::int64_t(core::cpu().l2_bytes) / 2 / (4 * used));
    choices.push_back(Blocking{depth, int(std::min<std::int64_t>(rows, 1 << 20))}.text());
  }
  return choices;
}

std::unique_ptr<Engine> gemm_linear(const Linear& linear, PackedWeights& weights, const std::string& choice,
                                    int threads) {
  Blocking blocking;
  if (!parse(choice, blocking)) return nullptr;
  return std::make_unique<GemmEngine>(linear, weights, blocking, threads);
}

}  // namespace replk::dense
