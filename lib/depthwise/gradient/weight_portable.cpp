#include "depthwise/gradient/weight_portable.hpp"

#include <algorithm>
#include <cstdint>

#include "core/half.hpp"
#include "core/memory.hpp"
#include "core/threads.hpp"
#include "depthwise/problem/rows.hpp"
#include "jit/x64/fingerprint.hpp"

namespace replk::depthwise {
namespace {

constexpr int lanes = portable_weight_lanes;
constexpr int most_taps = 127;  // of a branch's row

/// A row of a tensor, of `count` channels from `channel` on: [width][lanes], zeros in the lanes behind.
void pack(const simd::RowLayout& layout, const void* tensor, std::int64_t image, std::int64_t row,
          int channel, int count, float* to) {
  std::fill_n(to, layout.width * lanes, 0.0f);
  core::with_type(layout.type, [&](auto type) {
    for (int l = 0; l < count; l++) {
      const auto* from = static_cast<const decltype(type)*>(tensor) + layout.at(image, row, channel + l);
      for (int x = 0; x < layout.width; x++)
        to[x * lanes + l] = core::to_float(from[x * layout.pixel_stride]);
    }
  });
}

/// Adds a row of outputs to the sums of a row of taps. Products of two floats are exact in double, so that a
/// fused multiply-add, where the compiler makes one, has the same bits.
[[gnu::always_inline]] inline void add_row_body(const Axis& axis, const float* dy, const float* x,
                                                double* sums) {
  for (int j = 0; j < axis.taps; j++, sums += lanes) {
    const Range columns = axis.outputs_of(j);
    double sum[lanes];
    for (int l = 0; l < lanes; l++) sum[l] = sums[l];
    for (int q = columns.first; q < columns.end; q++) {
      const float* a = dy + std::int64_t{q} * lanes;
      const float* b = x + (std::int64_t{axis.origin(q)} + j * axis.dilation) * lanes;
      for (int l = 0; l < lanes; l++) sum[l] += static_cast<double>(a[l]) * static_cast<double>(b[l]);
    }
    for (int l = 0; l < lanes; l++) sums[l] = sum[l];
  }
}
[[gnu::target("avx2,fma")]] void add_row_wide(const Axis& axis, const float* dy, const float* x,
                                              double* sums) {
  add_row_body(axis, dy, x, sums);
}
void add_row_plain(const Axis& axis, const float* dy, const float* x, double* sums) {
  add_row_body(axis, dy, x, sums);
}

void store(double sum, bool accumulate, float* to) {
  *to = accumulate ? *to + static_cast<float>(sum) : static_cast<float>(sum);
}

class Portable final : public WeightExecutor {
 public:
  explicit Portable(const Problem& problem) : problem_(problem) {}

  std::size_t workspace_bytes(int threads) const override {
    return portable_weight_bytes(problem_) * static_cast<std::size_t>(threads);
  }

  void run(const WeightGradientTensors& tensors, const WeightRun& run) const override {
    const auto scratch = [&](int thread) {
      return static_cast<char*>(run.workspace) +
             portable_weight_bytes(problem_) * static_cast<std::size_t>(thread);
    };
    const std::int64_t blocks = this->blocks();
    const auto body = [&](std::int64_t task, int thread) {
      const int first = static_cast<int>(task % blocks) * lanes,
                count = std::min(lanes, problem_.channels - first);
      int row = static_cast<int>(task / blocks), branch = 0;
      while (branch < branches() && row >= problem_.branches[branch].kernel_h)
        row -= problem_.branches[branch++].kernel_h;
      if (branch < branches())
        weight_row(tensors, run, branch, row, first, count, scratch(thread));
      else
        bias(tensors, run, first, count, scratch(thread));
    };
    core::parallel_for(tasks(), run.threads, body);
  }

  std::vector<Phase> phases(int) const override { return {{"rows of taps", tasks()}}; }
  std::size_t prepared_bytes() const override { return 0; }

 private:
  int branches() const { return static_cast<int>(problem_.branches.size()); }
  std::int64_t blocks() const { return (problem_.channels + lanes - 1) / lanes; }
  /// Rows of taps, and one more for the bias, of every block of channels.
  std::int64_t tasks() const {
    std::int64_t rows = 1;
    for (const Branch& b : problem_.branches) rows += b.kernel_h;
    return rows * blocks();
  }

  void weight_row(const WeightGradientTensors& tensors, const WeightRun& run, int branch, int row, int first,
                  int count, void* scratch) const {
    float* const to = tensors.dweights[branch];
    if (!to) return;
    const Branch& b = problem_.branches[branch];
    double sums[most_taps * lanes];
    portable_weight_row(problem_, tensors, run.batch, branch, row, first, count, scratch, sums);
    for (int l = 0; l < count; l++)
      for (int j = 0; j < b.kernel_w; j++)
        store(sums[j * lanes + l], run.accumulate,
              to + std::int64_t{first + l} * b.taps() + row * b.kernel_w + j);
  }

  void bias(const WeightGradientTensors& tensors, const WeightRun& run, int first, int count,
            void* scratch) const {
    if (!tensors.dbias) return;
    double sums[lanes];
    portable_weight_bias(problem_, tensors, run.batch, first, count, scratch, sums);
    for (int l = 0; l < count; l++) store(sums[l], run.accumulate, tensors.dbias + first + l);
  }

  const Problem problem_;
};

class PortableAlgorithm final : public WeightAlgorithm {
 public:
  std::string_view name() const override { return "portable"; }
  bool exact() const override { return true; }
  int complexity() const override { return 0; }
  std::span<const std::int32_t> constants() const override { return jit::values_of<WeightConstants>; }
  bool legal(const Problem&, const Kernel&, const Tiling& tiling, Isa) const override {
    return tiling.algorithm == name() && tiling.fields.empty();
  }
  std::vector<Candidate> every_candidate(const Problem& problem, const Kernel&, Isa,
                                         int threads) const override {
    constexpr double rate = 2e9;  // multiply-adds a second
    return {{Tiling{"portable", {}}, static_cast<double>(problem.useful_macs()) / rate / threads}};
  }
  std::unique_ptr<WeightExecutor> prepare(const Problem& problem, const Kernel&, const Tiling&,
                                          Isa) const override {
    return std::make_unique<Portable>(problem);
  }
};

}  // namespace

std::size_t portable_weight_bytes(const Problem& p) {
  return core::round_up((static_cast<std::size_t>(p.width) + p.out_width()) * lanes * sizeof(float),
                        core::alignment);
}

void portable_weight_row(const Problem& p, const WeightGradientTensors& tensors, std::int64_t batch,
                         int branch, int row, int first, int count, void* rows, double* sums) {
  const Axis vertical = p.vertical(p.branches[branch]), horizontal = p.horizontal(p.branches[branch]);
  const simd::RowLayout input = input_rows(p), output = output_rows(p);
  auto* const x = static_cast<float*>(rows);
  float* const dy = x + std::int64_t{p.width} * lanes;
  const auto add_row = core::cpu().isa >= Isa::avx2 ? add_row_wide : add_row_plain;
  std::fill_n(sums, horizontal.taps * lanes, 0.0);
  const Range meeting = vertical.outputs_of(row);
  for (std::int64_t image = 0; image < batch; image++)
    for (int y = meeting.first; y < meeting.end; y++) {
      pack(output, tensors.dy, image, y, first, count, dy);
      pack(input, tensors.src, image, vertical.origin(y) + row * vertical.dilation, first, count, x);
      add_row(horizontal, dy, x, sums);
    }
}

void portable_weight_bias(const Problem& p, const WeightGradientTensors& tensors, std::int64_t batch,
                          int first, int count, void* rows, double* sums) {
  const simd::RowLayout layout = output_rows(p);
  auto* const row = static_cast<float*>(rows);
  std::fill_n(sums, lanes, 0.0);
  for (std::int64_t image = 0; image < batch; image++)
    for (int y = 0; y < p.out_height(); y++) {
      pack(layout, tensors.dy, image, y, first, count, row);
      for (std::int64_t x = 0; x < layout.width; x++)
        for (int l = 0; l < lanes; l++) sums[l] += row[x * lanes + l];
    }
}

const WeightAlgorithm& portable_weight_algorithm() {
  static const PortableAlgorithm algorithm;
  return algorithm;
}

}  // namespace replk::depthwise
