#include "depthwise/rescue.hpp"

#include <algorithm>
#include <atomic>
#include <bit>
#include <cmath>
#include <cstdint>
#include <functional>
#include <utility>

#include "core/half.hpp"
#include "core/memory.hpp"
#include "core/threads.hpp"

namespace replk::depthwise {
namespace {

/// How far a value within an algorithm may exceed the largest input times the sum of |w|, or either alone: a
/// transform adds up 320 x 160 values, Gauss's and three of Karatsuba's products double both factors four
/// times, and the way back adds up as many again as the weights have been divided by.
constexpr double growth = 0x1p24, largest = 0x1p128 / growth;

double activate(double x, Activation activation) {
  switch (activation) {
    case Activation::none:
      return x;
    case Activation::relu:
      return std::max(x, 0.0);
    case Activation::gelu:
      return 0.5 * x * std::erfc(-x * std::sqrt(0.5));
    case Activation::silu:
      return x / (1 + std::exp(-x));
    case Activation::hard_swish:
      return x * std::clamp(x / 6 + 0.5, 0.0, 1.0);
  }
  return x;
}

/// Whether any of `count` numbers is at least this large; NaNs count as large.
template <class T>
bool any_from(const T* row, int count, float limit) {
  // The bits of floats without their signs are ordered as the floats are.
  const std::int32_t least = std::bit_cast<std::int32_t>(limit);
  int large = 0;
  for (int i = 0; i < count; i++)
    large |= (std::bit_cast<std::int32_t>(core::to_float(row[i])) & INT32_MAX) >= least;
  return large != 0;
}

}  // namespace

Rescue::Rescue(const Problem& problem, const Kernel& kernel, std::shared_ptr<const Executor> executor,
               bool turned)
    : problem_(problem), kernel_(kernel), executor_(std::move(executor)), turned_(turned) {
  std::size_t count = 0;
  for (const Branch& branch : problem.branches)
    count += static_cast<std::size_t>(problem.channels) * static_cast<std::size_t>(branch.taps());
  weights_ = core::Buffer<float>(count);
  core::keep_pages_small(weights_.data(), weights_.size() * sizeof(float));
  bias_.resize(static_cast<std::size_t>(problem.channels));
  scale_.resize(problem.epilogue.scale ? static_cast<std::size_t>(problem.channels) : 0);
}

Rescue::Rescue(const Problem& problem, const Kernel& kernel, std::shared_ptr<const Rescue> layer)
    : problem_(problem),
      kernel_(kernel),
      layer_(std::move(layer)),
      bias_(static_cast<std::size_t>(problem.channels)) {}

void Rescue::set_weights(std::span<const std::span<const float>> branches, std::span<const float> bias,
                         std::span<const float> scale, bool packing_overflowed) {
  // For most layers the copy would take as long as packing, and nobody ever reads it.
  copied_ = packing_overflowed || !executor_->unpacks() || problem_.epilogue.residual;
  float* to = weights_.data();
  if (copied_)
    for (const std::span<const float> branch : branches) to = std::copy(branch.begin(), branch.end(), to);
  std::fill(bias_.begin(), bias_.end(), 0.0f);
  if (problem_.epilogue.bias) std::copy(bias.begin(), bias.end(), bias_.begin());
  std::copy_n(scale.begin(), scale_.size(), scale_.begin());
  always_ = packing_overflowed;
  if (problem_.epilogue.residual) limit_ = safe_limit();  // nobody else asks may_be_needed
}

/// From the largest weight and bias of all channels: what is not finite or beyond the limits gives 0, and is
/// looked into channel by channel.
float Rescue::safe_limit() const {
  std::int32_t most = 0;  // of the bits without the sign, which are ordered as the numbers are
  for (std::size_t i = 0; i < weights_.size(); i++)
    most = std::max(most, std::bit_cast<std::int32_t>(weights_[i]) & INT32_MAX);
  const double norm = std::bit_cast<float>(most) * static_cast<double>(weights_.size()) / problem_.channels;
  double bias = 0;
  for (const float each : bias_) bias = std::max(bias, std::fabs(double{each}));
  return norm <= largest && bias <= largest ? static_cast<float>(largest / std::max(norm, 1.0)) : 0.0f;
}

/// Row `row` of a channel's merged kernel.
void Rescue::line(int channel, int row, double* to) const {
  if (layer_) {
    layer_->line(channel, kernel_.height - 1 - row, to);
    return std::reverse(to, to + kernel_.width);
  }
  if (!copied_) return executor_->unpack(channel, row, to);
  std::fill_n(to, kernel_.width, 0.0);
  const float* branch = weights_.data();
  for (const Branch& b : problem_.branches) {
    const Axis horizontal = problem_.horizontal(b);
    const int i = problem_.vertical(b).tap_at(kernel_.offset_h + row);
    const float* w = branch + std::int64_t{channel} * b.taps();
    for (int column = 0; i >= 0 && column < kernel_.width; column++)
      if (const int j = horizontal.tap_at(kernel_.offset_w + column); j >= 0) {
        const int tap = i * b.kernel_w + j;
        to[column] += double{w[turned_ ? b.taps() - 1 - tap : tap]};
      }
    branch += std::int64_t{problem_.channels} * b.taps();
  }
}

double Rescue::sum_of_weights(int channel) const {
  double sum = 0, taps[most_extent];
  for (int row = 0; row < kernel_.height; row++) {
    line(channel, row, taps);
    for (int column = 0; column < kernel_.width; column++) sum += std::fabs(taps[column]);
  }
  return sum;
}

/// Whether an output channel may overflow on the way, and its inputs, weights and bias are all finite.
template <class T>
bool Rescue::large(const T* image, int channel) const {
  const Strides at = problem_.input_strides();
  const T* src = image + channel / problem_.multiplier * at.channel;
  float most = 0, invalid = 0;  // the second stays 0 but for a NaN or an infinity
  for (int y = 0; y < problem_.height; y++)
    for (int x = 0; x < problem_.width; x++) {
      const float value = std::fabs(core::to_float(src[y * at.row + x * at.pixel]));
      most = value > most ? value : most;
      invalid += value * 0.0f;
    }
  if (invalid != 0) return false;
  const double norm = sum_of_weights(channel),
               bias = std::fabs(double{bias_[static_cast<std::size_t>(channel)]});
  if (!std::isfinite(norm + bias)) return false;
  return norm > largest || bias > largest || most >= largest / std::max(norm, 1.0);
}

bool Rescue::may_be_needed(const void* src, int threads) const {
  std::atomic<bool> found{false};
  core::with_type(problem_.type, [&](auto type) {
    using T = decltype(type);
    const Strides at = problem_.input_strides();
    const int channels = problem_.input_channels();
    const bool planes = problem_.layout == Layout::nchw;
    const auto body = [&](std::int64_t task, int) {
      const T* row =
          static_cast<const T*>(src) + task % problem_.height * at.row + task / problem_.height * at.channel;
      if (planes) {
        if (any_from(row, problem_.width, limit_)) found = true;
        return;
      }
      for (int x = 0; x < problem_.width; x++)
        if (any_from(row + x * at.pixel, channels, limit_)) found = true;
    };
    core::parallel_for(std::int64_t{problem_.height} * (planes ? channels : 1), threads, std::ref(body));
  });
  return found;
}

/// A piece of a row of outputs at a time, since a row of the kernel is found anew for each.
template <class T>
void Rescue::compute(const Tensors& tensors, std::int64_t image, int channel) const {
  constexpr int piece = 256;
  const Problem& p = problem_;
  const Strides in = p.input_strides(), out = p.output_strides();
  const Axis vertical = depthwise::vertical(p, kernel_), horizontal = depthwise::horizontal(p, kernel_);
  const T* src = static_cast<const T*>(tensors.src) + image * in.image + channel / p.multiplier * in.channel;
  double taps[most_extent], sums[piece];
  for (int row = 0; row < p.out_height(); row++)
    for (int begin = 0; begin < p.out_width(); begin += piece) {
      const int count = std::min(piece, p.out_width() - begin);
      std::fill_n(sums, count, double{bias_[static_cast<std::size_t>(channel)]});
      const Range rows = vertical.taps_of(row);
      for (int i = rows.first; i < rows.end; i++) {
        line(channel, i, taps);
        const T* from = src + (vertical.origin(row) + i) * in.row;
        for (int q = 0; q < count; q++) {
          const Range columns = horizontal.taps_of(begin + q);
          for (int j = columns.first; j < columns.end; j++)
            sums[q] += taps[j] * core::to_float(from[(horizontal.origin(begin + q) + j) * in.pixel]);
        }
      }
      const std::int64_t at = image * out.image + row * out.row + begin * out.pixel + channel * out.channel;
      core::with_type(p.output_type(), [&](auto type) {
        for (int q = 0; q < count; q++) finish<decltype(type)>(tensors, at + q * out.pixel, channel, sums[q]);
      });
    }
}

/// Writes an output, given its sum.
template <class T>
void Rescue::finish(const Tensors& tensors, std::int64_t at, int channel, double sum) const {
  double value = activate(sum, problem_.epilogue.activation);
  if (problem_.epilogue.scale) value *= scale_[static_cast<std::size_t>(channel)];
  if (problem_.epilogue.residual) value += core::to_float(static_cast<const T*>(tensors.residual)[at]);
  static_cast<T*>(tensors.dst)[at] = core::from_float<T>(static_cast<float>(value));
}

void Rescue::run(const Tensors& tensors, std::int64_t batch, int threads) const {
  core::with_type(problem_.type, [&](auto type) {
    using T = decltype(type);
    const std::int64_t images = problem_.input_strides().image;
    const auto body = [&](std::int64_t task, int) {
      const std::int64_t image = task / problem_.channels;
      const int channel = static_cast<int>(task % problem_.channels);
      if (large(static_cast<const T*>(tensors.src) + image * images, channel))
        compute<T>(tensors, image, channel);
    };
    core::parallel_for(batch * problem_.channels, threads, std::ref(body));
  });
}

}  // namespace replk::depthwise
