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
  if (layer.input_batch_norm.empty()) return values_[layer.src];
  return behind(layer.input_batch_norm, layer.inputs, reader_);
}

void StatisticsWalk::pass(const Layer& layer, const FoldedDense* folded) {
  if (!layer.input_batch_norm.empty()) {  // it says what its input is like
    const core::Buffer<float> mean = reader_.read(layer.input_batch_norm + ".running_mean", {layer.inputs});
    const core::Buffer<float> variance =
        reader_.read(layer.input_batch_norm + ".running_var", {layer.inputs});
    std::vector<double> deviation(variance.begin(), variance.end());
    for (double& value : deviation) value = std::sqrt(value);
    values_[layer.src] = normal_channels({mean.begin(), mean.end()}, std::move(deviation));
  }
  ChannelStatistics result = activated(of_result(layer, folded), layer.activation);
  if (layer.residual >= 0) result = sum_of(result, values_[layer.residual]);
  values_[layer.dst] = std::move(result);
}

ChannelStatistics StatisticsWalk::of_result(const Layer& layer, const FoldedDense* folded) {
  switch (layer.operation) {
    case Operation::linear:
    case Operation::convolution: {
      ChannelStatistics result = behind_batch_norm(layer);
      if (!result.known() && folded) result = through(*folded, input(layer));
      return result;
    }
    case Operation::depthwise:
      return of_depthwise(layer);
    case Operation::layer_norm:
    case Operation::grn:
      return of_norm(layer);
    case Operation::squeeze_excite:
      return of_squeeze_excite(layer);
    case Operation::relu6_clamp: {
      ChannelStatistics result = values_[layer.src];
      for (auto* bound : {&result.mean, &result.low, &result.high})
        for (double& value : *bound) value = std::min(value, 6.0);
      return result;
    }
    case Operation::mean:
      return values_[layer.src];
  }
  return {};
}

/// Of the layer's sum, where its own batch norm follows.
ChannelStatistics StatisticsWalk::behind_batch_norm(const Layer& layer) {
  const std::string& batch_norm = layer.tensors[0].batch_norm;
  if (batch_norm.empty() || !reader_.has(batch_norm + ".weight")) return {};
  ChannelStatistics result = behind(batch_norm, layer.outputs, reader_);
  if (!layer.output_scale.empty() && reader_.has(layer.output_scale)) {
    const core::Buffer<float> scale = reader_.read(layer.output_scale, {layer.outputs});
    for (int o = 0; o < layer.outputs; ++o) scale_channel(result, static_cast<std::size_t>(o), scale[o]);
  }
  return result;
}

ChannelStatistics StatisticsWalk::of_depthwise(const Layer& layer) {
  if (!layer.sum_batch_norm.empty() && reader_.has(layer.sum_batch_norm + ".weight"))
    return behind(layer.sum_batch_norm, layer.outputs, reader_);
  ChannelStatistics sum;
  for (const ConvTensors& branch : layer.tensors) {
    if (branch.batch_norm.empty() || !reader_.has(branch.batch_norm + ".weight")) return {};
    ChannelStatistics one = behind(branch.batch_norm, layer.outputs, reader_);
    sum = sum.known() ? sum_of(sum, one) : std::move(one);
  }
  return sum;
}

/// A layer norm's own parameters are mean and deviation, as a batch norm's; GRN is a factor.
ChannelStatistics StatisticsWalk::of_norm(const Layer& layer) {
  const ConvTensors& norm = layer.tensors[0];
  const core::Buffer<float> gain = reader_.read(norm.weight, norm.shape);
  if (layer.operation == Operation::layer_norm) {
    const core::Buffer<float> offset = reader_.read(norm.bias, norm.shape);
    std::vector<double> deviation(gain.begin(), gain.end());
    for (double& value : deviation) value = std::abs(value);
    return normal_channels({offset.begin(), offset.end()}, std::move(deviation));
  }
  ChannelStatistics result = values_[layer.src];
  double sum = 0;
  std::vector<double> norms;
  for (std::size_t c = 0; c < result.mean.size(); ++c) {
    norms.push_back(std::hypot(result.mean[c], result.deviation[c]));
    sum += norms.back();
  }
  const double average = sum / static_cast<double>(std::max<std::size_t>(norms.size(), 1)) + layer.epsilon;
  for (std::size_t c = 0; c < norms.size(); ++c) scale_channel(result, c, gain[c] * norms[c] / average + 1);
  return result;
}

/// The gates of an image are those of the channels' means.
ChannelStatistics StatisticsWalk::of_squeeze_excite(const Layer& layer) {
  ChannelStatistics result = values_[layer.src];
  if (!result.known()) return result;
  std::vector<double> signal = result.mean;
  for (std::size_t part = 0; part < 2; ++part) {
    const ConvTensors& tensors = layer.tensors[part];
    const core::Buffer<float> weights = reader_.read(tensors.weight, tensors.shape);
    const core::Buffer<float> bias = reader_.read(tensors.bias, {tensors.shape[0]});
    std::vector<double> next(bias.begin(), bias.end());
    for (std::size_t o = 0; o < next.size(); ++o) {
      for (std::size_t i = 0; i < signal.size(); ++i) next[o] += weights[o * signal.size() + i] * signal[i];
      if (part == 0) next[o] = std::max(next[o], 0.0);
    }
    signal = std::move(next);
  }
  for (std::size_t c = 0; c < signal.size(); ++c) scale_channel(result, c, 1 / (1 + std::exp(-signal[c])));
  return result;
}

}  // namespace replk::model
