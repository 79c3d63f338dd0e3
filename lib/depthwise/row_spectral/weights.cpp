#include "depthwise/row_spectral/weights.hpp"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <functional>

#include "core/half.hpp"
#include "core/threads.hpp"

namespace replk::depthwise {
namespace {

constexpr int most_lanes = 16, most_taps = 320;  // along an axis: no more than the transforms are long

}  // namespace

Spectra::Spectra(const RowSpectralGeometry& g, const Kernel& kernel, const std::vector<int>& signs)
    : kernel_(kernel),
      lanes_(g.lanes),
      blocks_(g.all_blocks()),
      reals_(g.parameters.transform.reals()),
      pairs_(g.parameters.transform.pairs()),
      along_h_(g.parameters.along_h),
      half_(g.parameters.half_weights),
      across_taps_(g.across_taps),
      real_planes_floats_(g.real_floats() * g.parameters.transform.reals()),
      pair_floats_(g.pair_floats()),
      block_floats_(g.weights_floats()),
      weights_(static_cast<std::size_t>(g.weights_floats()) * g.all_blocks()),
      bias_(static_cast<std::size_t>(g.all_blocks()) * g.bias_vectors() * g.lanes) {
  if (g.problem.epilogue.scale) scale_ = core::Buffer<float>(static_cast<std::size_t>(blocks_) * lanes_);
  const jit::RowWeightsSpec rows = g.row_weights(signs);
  rows_ = jit::get_code(rows.text(), [&] { return jit::generate(rows); });
  columns_ = g.parameters.columns->weights_code(g);
  if (!columns_ && !half_) find_way_back();
}

void Spectra::set(const Weights& weights, int threads) {
  const auto body = [&](std::int64_t block, int) { set_block(weights, static_cast<int>(block)); };
  core::parallel_for(blocks_, threads, std::ref(body));
  if (half_) close_up();
}

void Spectra::set_block(const Weights& weights, int block) {
  float* const to = weights_.data() + block_floats_ * block;
  const int channel = block * lanes_;
  float* const bias = bias_.data() + static_cast<std::size_t>(block) * (half_ ? 2 : 1) * lanes_;
  weights.bias(channel, lanes_, bias);
  if (scale_.size() > 0) weights.scale(channel, lanes_, scale_.data() + channel);
  transform_rows(weights, block, to);
  if (columns_) transform_columns(to + real_planes_floats_);
  if (half_) halve(to, bias);
}

/// In place, from the front. A channel's largest weight comes to lie between 1/2 and 1: then fp16's smallest
/// step is 2^-24 of it, and no sum is much larger than in fp32 (Rescue).
void Spectra::halve(float* block, float* bias) const {
  float most[most_lanes] = {};
  for (std::int64_t i = 0; i < block_floats_; i++)
    most[i % lanes_] = std::max(most[i % lanes_], std::fabs(block[i]));
  float up[most_lanes];
  for (int l = 0; l < lanes_; l++) {
    // The inverse is a normal number too.
    constexpr int most_power = 120;
    const bool any = std::isfinite(most[l]) && most[l] > 0;
    const int power = any ? std::clamp(-std::ilogb(most[l]) - 1, -most_power, most_power) : 0;
    up[l] = std::ldexp(1.0f, power);
    bias[l] *= up[l];
    bias[lanes_ + l] = std::ldexp(1.0f, -power);
  }
  for (std::int64_t i = 0; i < block_floats_; i++) {
    const auto half = core::from_float<core::F16>(block[i] * up[i % lanes_]);
    std::memcpy(reinterpret_cast<char*>(block) + sizeof(half) * i, &half, sizeof(half));
  }
}

/// Moves the blocks, each now in the first half of its memory, next to each other.
void Spectra::close_up() {
  auto* const all = reinterpret_cast<char*>(weights_.data());
  for (int block = 1; block < blocks_; block++)
    std::memmove(all + block_bytes() * static_cast<std::size_t>(block),
                 all + 2 * block_bytes() * static_cast<std::size_t>(block), block_bytes());
}

/// Every line of taps along the transformed axis to its values on all planes, a few lines at once.
void Spectra::transform_rows(const Weights& weights, int block, float* to) {
  alignas(64) float lines[most_taps * most_lanes];
  const auto transform = rows_->entry<jit::WeightTransform>();
  const int count = static_cast<int>(across_taps_.size()), channel = block * lanes_,
            line = (along_h_ ? kernel_.height : kernel_.width) * lanes_;
  const int together = std::max(1, most_taps * most_lanes / line);
  for (int begin = 0; begin < count; begin += together) {
    const int end = std::min(count, begin + together);
    if (along_h_)
      for (int i = begin; i < end; i++)
        weights.column(kernel_, across_taps_[i], channel, lanes_, lines + (i - begin) * line);
    else if (across_taps_[end - 1] - across_taps_[begin] == end - 1 - begin)
      weights.rows(kernel_, across_taps_[begin], end - begin, channel, lanes_, lines);
    else
      for (int i = begin; i < end; i++)
        weights.row(kernel_, across_taps_[i], channel, lanes_, lines + (i - begin) * line);
    transform(lines, to + begin * lanes_, to + real_planes_floats_ + 2 * begin * lanes_, end - begin);
  }
}

/// Of each pair of planes, where its taps lie.
void Spectra::transform_columns(float* pairs) const {
  alignas(64) float taps[2 * most_taps * most_lanes];
  const auto transform = columns_->entry<jit::WeightTransform>();
  for (int pair = 0; pair < pairs_; pair++, pairs += pair_floats_) {
    std::memcpy(taps, pairs, sizeof(float) * 2 * across_taps_.size() * lanes_);
    transform(taps, nullptr, pairs, 1);
  }
}

/// A transform's inverse is its transpose but for a factor a plane: n for real ones, n / 2 for pairs, whose
/// values have been divided by n and n / 2. Tap by tap, a lane each, in the memory of the first block.
void Spectra::find_way_back() {
  alignas(64) float line[most_taps * most_lanes];
  const int taps = along_h_ ? kernel_.height : kernel_.width, planes = reals_ + 2 * pairs_, n = planes;
  if (taps > n) return;  // several share a place
  way_back_.resize(static_cast<std::size_t>(taps) * planes);
  for (int begin = 0; begin < taps; begin += lanes_) {
    const int count = std::min(lanes_, taps - begin);
    std::fill_n(line, taps * lanes_, 0.0f);
    for (int l = 0; l < count; l++) line[(begin + l) * lanes_ + l] = 1;
    rows_->entry<jit::WeightTransform>()(line, weights_.data(), weights_.data() + real_planes_floats_, 1);
    for (int l = 0; l < count; l++)
      for (int plane = 0; plane < planes; plane++)
        way_back_[static_cast<std::size_t>(begin + l) * planes + plane] =
            weights_[place(plane, 0) + l] * static_cast<float>(plane < reals_ ? n : n / 2.0);
  }
}

/// Of a block, the first lane of a line's value on a plane.
std::int64_t Spectra::place(int plane, int line) const {
  if (plane < reals_) return plane * (real_planes_floats_ / reals_) + line * lanes_;
  const int part = plane - reals_;
  return real_planes_floats_ + part / 2 * pair_floats_ + (2 * line + part % 2) * lanes_;
}

double Spectra::tap(int channel, int line, int tap) const {
  const int planes = reals_ + 2 * pairs_;
  const float* const back = way_back_.data() + static_cast<std::size_t>(tap) * planes;
  const float* const from = weights_.data() + block_floats_ * (channel / lanes_) + channel % lanes_;
  double sum = 0;
  for (int plane = 0; plane < planes; plane++) sum += double{back[plane]} * from[place(plane, line)];
  return sum;
}

void Spectra::unpack(int channel, int row, double* to) const {
  const auto line_of = [&](int across) {
    const auto at = std::lower_bound(across_taps_.begin(), across_taps_.end(), across);
    return at != across_taps_.end() && *at == across ? static_cast<int>(at - across_taps_.begin()) : -1;
  };
  for (int column = 0; column < kernel_.width; column++) {
    const int line = line_of(along_h_ ? column : row);
    to[column] = line < 0 ? 0 : tap(channel, line, along_h_ ? row : column);
  }
}

std::size_t Spectra::bytes() const {
  std::size_t code = rows_->bytes().size();
  if (columns_) code += columns_->bytes().size();
  return 4 * (weights_.size() + bias_.size() + scale_.size() + way_back_.size()) + code;
}

}  // namespace replk::depthwise
