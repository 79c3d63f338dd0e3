#include "depthwise/row_spectral/weights.hpp"

#include <algorithm>
#include <cstring>
#include <functional>

#include "core/threads.hpp"

namespace replk::depthwise {
namespace {

constexpr int most_lanes = 16, most_taps = 320;  // along an axis: no more than the transforms are long

}  // namespace

Spectra::Spectra(const RowSpectralGeometry& g, const Kernel& kernel, const std::vector<int>& signs)
    : kernel_(kernel),
      lanes_(g.lanes),
      blocks_(g.all_blocks()),
      pairs_(g.parameters.transform.pairs()),
      along_h_(g.parameters.along_h),
      across_taps_(g.across_taps),
      real_planes_floats_(g.real_floats() * g.parameters.transform.reals()),
      pair_floats_(g.pair_floats()),
      block_floats_(g.weights_floats()),
      weights_(static_cast<std::size_t>(g.weights_floats()) * g.all_blocks()),
      bias_(static_cast<std::size_t>(g.all_blocks()) * g.lanes) {
  if (g.problem.epilogue.scale) scale_ = core::Buffer<float>(bias_.size());
  const jit::RowWeightsSpec rows = g.row_weights(signs);
  rows_ = jit::get_code(rows.text(), [&] { return jit::generate(rows); });
  if (!g.parameters.two_dimensional()) return;
  const jit::ColumnWeightsSpec columns = g.column_weights();
  columns_ = jit::get_code(columns.text(), [&] { return jit::generate(columns); });
}

void Spectra::set(const Weights& weights, int threads) {
  const auto body = [&](std::int64_t block, int) { set_block(weights, static_cast<int>(block)); };
  core::parallel_for(blocks_, threads, std::ref(body));
}

void Spectra::set_block(const Weights& weights, int block) {
  float* const to = weights_.data() + block_floats_ * block;
  const int channel = block * lanes_;
  weights.bias(channel, lanes_, bias_.data() + channel);
  if (scale_.size() > 0) weights.scale(channel, lanes_, scale_.data() + channel);
  transform_rows(weights, block, to);
  if (columns_) transform_columns(to + real_planes_floats_);
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
    for (int i = begin; i < end; i++)
      if (along_h_)
        weights.column(kernel_, across_taps_[i], channel, lanes_, lines + (i - begin) * line);
      else
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

std::size_t Spectra::bytes() const {
  std::size_t code = rows_->bytes().size();
  if (columns_) code += columns_->bytes().size();
  return 4 * (weights_.size() + bias_.size() + scale_.size()) + code;
}

}  // namespace replk::depthwise
