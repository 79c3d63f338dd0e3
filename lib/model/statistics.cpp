#include "model/statistics.hpp"

#include <algorithm>
#include <array>
#include <cmath>

namespace replk::model {
namespace {

double gelu(double x) {
  return 0.5 * x * std::erfc(-x / std::sqrt(2.0));
}

double activate(double x, Activation activation) {
  return activation == Activation::relu ? std::max(x, 0.0) : activation == Activation::gelu ? gelu(x) : x;
}

/// The least value of GELU, -0.17, is at -0.75; ReLU's and the identity's is at the lower end.
double lowest(double low, double high, Activation activation) {
  constexpr double valley = -0.7517915246935645;
  if (activation == Activation::gelu && low < valley) return gelu(std::min(high, valley));
  return activate(low, activation);
}

double highest(double low, double high, Activation activation) {
  return std::max(activate(low, activation), activate(high, activation));
}

/// Mean and deviation of f(x), x normal with these: a sum over so many points of the distribution.
template <class F>
std::pair<double, double> moments_of(double mean, double deviation, F f) {
  constexpr int points = 65;
  double weights = 0, sum = 0, squares = 0;
  for (int i = 0; i < points; ++i) {
    const double t = reach * (2.0 * i / (points - 1) - 1), weight = std::exp(-0.5 * t * t);
    const double y = f(mean + t * deviation);
    weights += weight;
    sum += weight * y;
    squares += weight * y * y;
  }
  const double average = sum / weights;
  return {average, std::sqrt(std::max(0.0, squares / weights - average * average))};
}

ChannelStatistics activated(ChannelStatistics channels, Activation activation) {
  if (activation == Activation::none) return channels;
  for (std::size_t c = 0; c < channels.mean.size(); ++c) {
    std::tie(channels.mean[c], channels.deviation[c]) = moments_of(
        channels.mean[c], channels.deviation[c], [&](double x) { return activate(x, activation); });
    const double low = channels.low[c], high = channels.high[c];
    channels.low[c] = lowest(low, high, activation);
    channels.high[c] = highest(low, high, activation);
  }
  return channels;
}

void scale_channel(ChannelStatistics& channels, std::size_t c, double factor) {
  channels.mean[c] *= factor;
  channels.deviation[c] *= std::abs(factor);
  channels.low[c] *= factor;
  channels.high[c] *= factor;
  if (factor < 0) std::swap(channels.low[c], channels.high[c]);
}

ChannelStatistics sum_of(const ChannelStatistics& a, const ChannelStatistics& b) {
  if (!a.known() || !b.known()) return {};
  std::vector<double> mean(a.mean.size()), deviation(a.mean.size());
  for (std::size_t c = 0; c < mean.size(); ++c) {
    mean[c] = a.mean[c] + b.mean[c];
    deviation[c] = std::hypot(a.deviation[c], b.deviation[c]);
  }
  return normal_channels(std::move(mean), std::move(deviation));
}

/// What a batch norm gives: its own parameters are mean and deviation.
ChannelStatistics behind(const std::string& batch_norm, int channels, TensorReader& reader) {
  const core::Buffer<float> gain = reader.read(batch_norm + ".weight", {channels});
  const core::Buffer<float> offset = reader.read(batch_norm + ".bias", {channels});
  std::vector<double> deviation(channels);
  for (int c = 0; c < channels; ++c) deviation[c] = std::abs(gain[c]);
  return normal_channels({offset.begin(), offset.end()}, std::move(deviation));
}

/// The same of a layer whose sum is followed by a batch norm of its own; nothing where there is none.
ChannelStatistics behind_own(const ConvTensors& tensors, int channels, TensorReader& reader) {
  if (tensors.batch_norm.empty() || !reader.has(tensors.batch_norm + ".weight")) return {};
  return behind(tensors.batch_norm, channels, reader);
}

/// The layer's result from its input's statistics.
ChannelStatistics through(const FoldedDense& folded, const ChannelStatistics& in) {
  if (!in.known()) return {};
  const std::size_t outputs = folded.bias.size(), inputs = in.mean.size();
  std::vector<double> mean(outputs), deviation(outputs);
  for (std::size_t o = 0; o < outputs; ++o) {
    double sum = folded.bias[o], variance = 0;
    for (std::size_t i = 0; i < inputs; ++i) {
      const double weight = folded.weights[o * inputs + i];
      sum += weight * in.mean[i];
      variance += weight * weight * in.deviation[i] * in.deviation[i];
    }
    mean[o] = sum;
    deviation[o] = std::sqrt(variance);
  }
  return normal_channels(std::move(mean), std::move(deviation));
}

}  // namespace

ChannelStatistics normal_channels(std::vector<double> mean, std::vector<double> deviation) {
  ChannelStatistics channels{std::move(mean), std::move(deviation), {}, {}};
  for (std::size_t c = 0; c < channels.mean.size(); ++c) {
    channels.low.push_back(channels.mean[c] - reach * channels.deviation[c]);
    channels.high.push_back(channels.mean[c] + reach * channels.deviation[c]);
  }
  return channels;
}

ChannelStatistics StatisticsWalk::input(const Layer& layer) {
  const Linear* linear = layer.as<Linear>();
  if (!linear || linear->input_batch_norm.empty()) return values_[layer.src];
  return behind(linear->input_batch_norm, layer.inputs, reader_);
}

void StatisticsWalk::pass(const Layer& layer, const FoldedDense* folded) {
  const auto of_result = Overloaded{[&](const Linear& linear) { return of(layer, linear, folded); },
                                    [&](const LayerNorm& norm) { return of(norm); },
                                    [&](const Clamp&) {
                                      ChannelStatistics result = values_[layer.src];
                                      for (auto* bound : {&result.mean, &result.low, &result.high})
                                        for (double& value : *bound) value = std::min(value, 6.0);
                                      return result;
                                    },
                                    [&](const Mean&) { return values_[layer.src]; },
                                    [&](const auto& operation) { return of(layer, operation); }};
  ChannelStatistics result = activated(std::visit(of_result, layer.operation), layer.activation);
  if (layer.residual >= 0) result = sum_of(result, values_[layer.residual]);
  values_[layer.dst] = std::move(result);
}

ChannelStatistics StatisticsWalk::of(const Layer& layer, const Convolution& convolution) {
  return behind_own(convolution.tensors, layer.outputs, reader_);
}

ChannelStatistics StatisticsWalk::of(const Layer& layer, const Linear& linear, const FoldedDense* folded) {
  if (!linear.input_batch_norm.empty()) {  // it says what its input is like
    const core::Buffer<float> mean = reader_.read(linear.input_batch_norm + ".running_mean", {layer.inputs});
    const core::Buffer<float> variance =
        reader_.read(linear.input_batch_norm + ".running_var", {layer.inputs});
    std::vector<double> deviation(variance.begin(), variance.end());
    for (double& value : deviation) value = std::sqrt(value);
    values_[layer.src] = normal_channels({mean.begin(), mean.end()}, std::move(deviation));
  }
  ChannelStatistics result = behind_own(linear.tensors, layer.outputs, reader_);
  if (folded && linear.output_scale.empty()) judge(result, through(*folded, input(layer)));
  if (!result.known()) return folded ? through(*folded, input(layer)) : result;
  if (!linear.output_scale.empty() && reader_.has(linear.output_scale)) {
    const core::Buffer<float> scale = reader_.read(linear.output_scale, {layer.outputs});
    for (int o = 0; o < layer.outputs; ++o) scale_channel(result, static_cast<std::size_t>(o), scale[o]);
  }
  return result;
}

/// stated: by a batch norm of its result. A trained one's means are those that its layer has (exactly, behind
/// a linear input; replknet-nano: 0 to 0.13 of a deviation), random ones are off by 0.2 and more. Deviations
/// say less, since channels are not independent.
void StatisticsWalk::judge(const ChannelStatistics& stated, const ChannelStatistics& found) {
  constexpr double largest_shift = 0.15, largest_ratio = 6;
  if (!stated.known() || !found.known()) return;
  double shift = 0, variance = 0, expected = 0;
  for (std::size_t c = 0; c < stated.mean.size(); ++c) {
    shift += (found.mean[c] - stated.mean[c]) * (found.mean[c] - stated.mean[c]);
    variance += found.deviation[c] * found.deviation[c];
    expected += stated.deviation[c] * stated.deviation[c];
  }
  const bool agrees = shift <= largest_shift * largest_shift * expected &&
                      variance <= largest_ratio * largest_ratio * expected &&
                      expected <= largest_ratio * largest_ratio * variance;
  ++(agrees ? agreeing_ : differing_);
}

ChannelStatistics StatisticsWalk::of(const Layer& layer, const Depthwise& depthwise) {
  if (!depthwise.sum_batch_norm.empty() && reader_.has(depthwise.sum_batch_norm + ".weight"))
    return behind(depthwise.sum_batch_norm, layer.outputs, reader_);
  ChannelStatistics sum;
  for (const ConvTensors& branch : depthwise.tensors) {
    ChannelStatistics one = behind_own(branch, layer.outputs, reader_);
    if (!one.known()) return {};
    sum = sum.known() ? sum_of(sum, one) : std::move(one);
  }
  return sum;
}

/// Its own parameters are mean and deviation, as a batch norm's.
ChannelStatistics StatisticsWalk::of(const LayerNorm& norm) {
  const core::Buffer<float> gain = reader_.read(norm.tensors.weight, norm.tensors.shape);
  const core::Buffer<float> offset = reader_.read(norm.tensors.bias, norm.tensors.shape);
  std::vector<double> deviation(gain.begin(), gain.end());
  for (double& value : deviation) value = std::abs(value);
  return normal_channels({offset.begin(), offset.end()}, std::move(deviation));
}

/// A factor.
ChannelStatistics StatisticsWalk::of(const Layer& layer, const Grn& norm) {
  const core::Buffer<float> gain = reader_.read(norm.tensors.weight, norm.tensors.shape);
  ChannelStatistics result = values_[layer.src];
  double sum = 0;
  std::vector<double> norms;
  for (std::size_t c = 0; c < result.mean.size(); ++c) {
    norms.push_back(std::hypot(result.mean[c], result.deviation[c]));
    sum += norms.back();
  }
  const double average = sum / static_cast<double>(std::max<std::size_t>(norms.size(), 1)) + norm.epsilon;
  for (std::size_t c = 0; c < norms.size(); ++c) scale_channel(result, c, gain[c] * norms[c] / average + 1);
  return result;
}

/// The gates of an image are those of the channels' means.
ChannelStatistics StatisticsWalk::of(const Layer& layer, const SqueezeExcite& gate) {
  ChannelStatistics result = values_[layer.src];
  if (!result.known()) return result;
  std::vector<double> signal = result.mean;
  for (const ConvTensors* tensors : {&gate.down, &gate.up}) {
    const core::Buffer<float> weights = reader_.read(tensors->weight, tensors->shape);
    const core::Buffer<float> bias = reader_.read(tensors->bias, {tensors->shape[0]});
    std::vector<double> next(bias.begin(), bias.end());
    for (std::size_t o = 0; o < next.size(); ++o) {
      for (std::size_t i = 0; i < signal.size(); ++i) next[o] += weights[o * signal.size() + i] * signal[i];
      if (tensors == &gate.down) next[o] = std::max(next[o], 0.0);
    }
    signal = std::move(next);
  }
  for (std::size_t c = 0; c < signal.size(); ++c) scale_channel(result, c, 1 / (1 + std::exp(-signal[c])));
  return result;
}

}  // namespace replk::model
