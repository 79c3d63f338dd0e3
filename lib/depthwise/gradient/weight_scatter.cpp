#include "depthwise/gradient/weight_scatter.hpp"

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <numeric>
#include <span>
#include <utility>

#include "core/memory.hpp"
#include "core/overflow.hpp"
#include "depthwise/gradient/weight_constants.hpp"
#include "depthwise/gradient/weight_portable.hpp"
#include "depthwise/problem/reader.hpp"
#include "depthwise/problem/rows.hpp"
#include "simd/taps.hpp"

namespace replk::depthwise {
namespace {

constexpr int most_together = weight_constants.most_together;

int rows_together(const Branch& b) {
  return std::max(1, most_together / b.kernel_w);
}

/// Where each tap of a branch lies along one axis of the tile.
std::vector<std::int64_t> places(const Axis& branch, int offset, const Lags& lags, std::int64_t stride) {
  std::vector<std::int64_t> all;
  for (int t = 0; t < branch.taps; t++) {
    const int distance = branch.offset + t * branch.dilation - offset - lags.first;
    const bool inside = distance >= 0 && distance < lags.extent() && distance % lags.step == 0 &&
                        !branch.outputs_of(t).empty();
    all.push_back(inside ? distance / lags.step * stride : -1);
  }
  return all;
}

/// A bit a lane that holds what is not finite.
std::uint32_t odd_lanes(const float* values, int count, int lanes) {
  std::uint32_t odd = 0;
  for (int i = 0; i < count; i++)
    for (int l = 0; l < lanes; l++)
      odd |= static_cast<std::uint32_t>(!std::isfinite(values[i * lanes + l])) << l;
  return odd;
}

/// Whether a channel's numbers are all finite.
bool finite(const Problem& p, const WeightGradientTensors& tensors, std::int64_t batch, int channel) {
  const auto all = [&](const Reader& read, int its, int height, int width) {
    for (std::int64_t n = 0; n < batch; n++)
      for (int y = 0; y < height; y++)
        for (int x = 0; x < width; x++)
          if (!std::isfinite(read(n, its, y, x))) return false;
    return true;
  };
  return all(Reader(p.type, p.input_strides(), tensors.src), channel / p.multiplier, p.height, p.width) &&
         all(Reader(p.type, p.output_strides(), tensors.dy), channel, p.out_height(), p.out_width());
}

}  // namespace

Lags Lags::of(const std::vector<bool>& wanted) {
  Lags lags;
  int last = -1, gap = 0;
  for (int t = 0; t < static_cast<int>(wanted.size()); t++) {
    if (!wanted[t]) continue;
    if (last < 0)
      lags.first = t;
    else
      gap = std::gcd(gap, t - last);
    last = t;
  }
  lags.step = std::max(gap, 1);
  lags.count = last < 0 ? 0 : (last - lags.first) / lags.step + 1;
  return lags;
}

Lags vertical_lags(const Kernel& k) {
  std::vector<bool> wanted(k.height);
  for (int a = 0; a < k.height; a++)
    for (int b = 0; b < k.width && !wanted[a]; b++) wanted[a] = k.has(a, b);
  return Lags::of(wanted);
}

Lags horizontal_lags(const Kernel& k) {
  std::vector<bool> wanted(k.width);
  for (int b = 0; b < k.width; b++)
    for (int a = 0; a < k.height && !wanted[b]; a++) wanted[b] = k.has(a, b);
  return Lags::of(wanted);
}

WeightScatter::WeightScatter(const Problem& problem, const Kernel& kernel, const Lags& vertical,
                             const Lags& horizontal, std::int64_t row_stride, std::int64_t column_stride,
                             int lanes)
    : problem_(problem), lanes_(lanes) {
  for (const Branch& b : problem.branches) {
    Placed p{places(problem.vertical(b), kernel.offset_h, vertical, row_stride),
             places(problem.horizontal(b), kernel.offset_w, horizontal, column_stride)};
    p.whole = true;
    for (int i = 0; i < b.kernel_h; i++)
      for (int j = 0; j < b.kernel_w; j++)
        p.whole = p.whole && p.rows[i] >= 0 && p.columns[j] >= 0 &&
                  p.rows[i] + p.columns[j] == (std::int64_t{i} * b.kernel_w + j) * lanes;
    branches_.push_back(std::move(p));
  }
}

std::size_t WeightScatter::bytes() const {
  std::size_t taps = 0;
  for (const Branch& b : problem_.branches)
    taps = std::max(taps, static_cast<std::size_t>(rows_together(b)) * b.kernel_w);
  return 2 * taps * lanes_ * sizeof(float) + portable_weight_bytes(problem_);
}

void WeightScatter::write(const Sums& sums, const WeightGradientTensors& tensors, const WeightRun& run,
                          void* scratch) const {
  for (std::size_t i = 0; i < branches_.size(); i++)
    if (tensors.dweights[i])
      write_branch(static_cast<int>(i), sums, tensors, run, static_cast<char*>(scratch));
  if (tensors.dbias) write_bias(sums, tensors, run, scratch);
}

void WeightScatter::expect(int first, int count, const WeightGradientTensors& tensors) const {
  for (std::size_t i = 0; i < branches_.size(); i++) {
    const int taps = problem_.branches[i].taps();
    float* const to = tensors.dweights[i];
    if (to) simd::expect_taps(taps, count, to + std::int64_t{first} * taps, taps);
  }
}

/// Some rows of the kernel at once, which lie one behind the other in memory.
void WeightScatter::write_branch(int branch, const Sums& s, const WeightGradientTensors& tensors,
                                 const WeightRun& run, char* scratch) const {
  const Branch& b = problem_.branches[branch];
  const Placed& placed = branches_[branch];
  const int taps = b.taps();
  float* const to = tensors.dweights[branch];
  if (placed.whole && s.slices == 1 && !run.accumulate && !s.overflowed)
    return simd::transpose_taps(s.tile, taps, lanes_, s.count, to + std::int64_t{s.first} * taps, taps);
  const int together = rows_together(b);
  float* const values = reinterpret_cast<float*>(scratch);
  float* const before = values + together * b.kernel_w * lanes_;
  void* const rows = before + together * b.kernel_w * lanes_;
  for (int begin = 0; begin < b.kernel_h; begin += together) {
    const int end = std::min(begin + together, b.kernel_h), count = (end - begin) * b.kernel_w;
    const core::OverflowWatch watch;
    simd::gather_taps({s.tile, s.slices, s.next_tile}, std::span(placed.rows).subspan(begin, end - begin),
                      placed.columns, lanes_, values);
    if (s.overflowed || watch.seen()) rescue(branch, begin, end, s, tensors, run, values, rows);
    float* const here = to + std::int64_t{s.first} * taps + begin * b.kernel_w;
    if (run.accumulate) {
      simd::pack_rows({DataType::f32, 0, 0, 1, taps, count}, here, {0, s.count}, before, {lanes_});
      simd::add(before, count * lanes_, values);
    }
    simd::transpose_taps(values, count, lanes_, s.count, here, taps);
  }
}

void WeightScatter::rescue(int branch, int begin, int end, const Sums& s,
                           const WeightGradientTensors& tensors, const WeightRun& run, float* to,
                           void* rows) const {
  const int width = problem_.branches[branch].kernel_w;
  const std::uint32_t odd = odd_lanes(to, (end - begin) * width, lanes_);
  double sums[127 * portable_weight_lanes];
  for (int l = 0; l < s.count; l++) {
    if (!(odd >> l & 1) || !finite(problem_, tensors, run.batch, s.first + l)) continue;
    for (int row = begin; row < end; row++) {
      portable_weight_row(problem_, tensors, run.batch, branch, row, s.first + l, 1, rows, sums);
      for (int j = 0; j < width; j++)
        to[((row - begin) * width + j) * lanes_ + l] = static_cast<float>(sums[j * portable_weight_lanes]);
    }
  }
}

void WeightScatter::write_bias(const Sums& s, const WeightGradientTensors& tensors, const WeightRun& run,
                               void* scratch) const {
  for (int l = 0; l < s.count; l++) {
    double sum = 0;
    for (int slice = 0; slice < s.slices; slice++) sum += s.bias[slice * s.next_bias + l];
    if (!std::isfinite(sum) && finite(problem_, tensors, run.batch, s.first + l)) {
      double sums[portable_weight_lanes];
      portable_weight_bias(problem_, tensors, run.batch, s.first + l, 1, scratch, sums);
      sum = sums[0];
    }
    float& to = tensors.dbias[s.first + l];
    to = run.accumulate ? to + static_cast<float>(sum) : static_cast<float>(sum);
  }
}

}  // namespace replk::depthwise
