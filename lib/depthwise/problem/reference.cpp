#include "depthwise/problem/reference.hpp"

#include <algorithm>
#include <cmath>
#include <limits>
#include <map>
#include <random>
#include <utility>

#include "depthwise/problem/corner.hpp"
#include "depthwise/problem/reader.hpp"

namespace replk::depthwise {
namespace {

double activate(double x, Activation activation) {
  switch (activation) {
    case Activation::none:
      return x;
    case Activation::relu:
      return x < 0 ? 0 : x;
    case Activation::gelu:
      return x == -HUGE_VAL ? 0 : 0.5 * x * std::erfc(-x * std::sqrt(0.5));
    case Activation::silu:
      return x == -HUGE_VAL ? 0 : x / (1 + std::exp(-x));
    case Activation::hard_swish:
      return x < -3 ? 0 : x > 3 ? x : x * (x / 6 + 0.5);
  }
  return x;
}

}  // namespace

double half_ulp(double value, DataType type) {
  if (type == DataType::f32 || !std::isfinite(value)) return 0;
  if (type == DataType::u8) return 0.5;
  const int mantissa = type == DataType::bf16 ? 8 : 11, least = type == DataType::bf16 ? -126 : -14;
  const int exponent = value == 0 ? least : std::max(std::ilogb(value), least);
  return std::ldexp(0.5, exponent - mantissa + 1);
}

double deviation(double got, double wanted) {
  if (std::isnan(wanted) ? std::isnan(got) : got == wanted) return 0;
  const double error = std::fabs(got - wanted);
  return std::isfinite(error) ? error : std::numeric_limits<double>::infinity();
}

std::vector<Sample> all_outputs(const Problem& p) {
  std::vector<Sample> samples;
  const int height = p.out_height(), width = p.out_width();
  for (std::int64_t n = 0; n < p.batch; n++)
    for (int c = 0; c < p.channels; c++)
      for (int y = 0; y < height; y++)
        for (int x = 0; x < width; x++) samples.push_back({n, c, y, x});
  return samples;
}

std::vector<Sample> sampled_outputs(const Problem& p, std::int64_t count, std::uint64_t seed) {
  double taps = 0;
  for (const Branch& b : p.branches) taps += b.taps();
  if (p.output_elements() <= count || static_cast<double>(p.output_elements()) * taps < 1e8)
    return all_outputs(p);

  std::mt19937_64 random(seed);
  const auto below = [&](std::int64_t end) { return static_cast<std::int64_t>(random() % end); };
  const int height = p.out_height(), width = p.out_width();
  const std::int64_t planes = p.batch * p.channels, area = std::int64_t{height} * width;
  const std::int64_t groups =
      std::clamp<std::int64_t>(count / std::min<std::int64_t>(area, 256), 16, planes < 16 ? 16 : planes);
  std::vector<Sample> samples;
  for (std::int64_t g = 0; g < groups; g++) {
    const std::int64_t plane = g == 0 ? 0 : g == 1 ? planes - 1 : below(planes);
    const auto add = [&](std::int64_t row, std::int64_t column) {
      samples.push_back({plane / p.channels, static_cast<int>(plane % p.channels), static_cast<int>(row),
                         static_cast<int>(column)});
    };
    for (int row : {0, height - 1})
      for (int column : {0, width - 1}) add(row, column);
    for (std::int64_t i = 0, each = (count + groups - 1) / groups; i < each; i++) switch (i % 6) {
        case 0:
          add(0, below(width));
          break;
        case 1:
          add(height - 1, below(width));
          break;
        case 2:
          add(below(height), 0);
          break;
        case 3:
          add(below(height), width - 1);
          break;
        default:
          add(below(height), below(width));
      }
  }
  return samples;
}

std::vector<double> reference(const Problem& p, std::span<const std::span<const float>> weights,
                              std::span<const float> bias, const Tensors& tensors,
                              std::span<const Sample> samples, std::span<const float> scale) {
  const Reader source(p.type, p.input_strides(), tensors.src);
  const Reader residual(p.output_type(), p.output_strides(), tensors.residual);
  std::vector<std::pair<int, int>> corners;  // of each branch, from the sample's place times the stride
  for (const Branch& b : p.branches) corners.push_back(corner(p, b));
  std::vector<double> results;
  results.reserve(samples.size());
  for (const Sample& s : samples) {
    double sum = p.epilogue.bias && !bias.empty() ? bias[s.channel] : 0;
    for (std::size_t i = 0; i < p.branches.size(); i++) {
      const Branch& b = p.branches[i];
      const int top = s.row * p.stride_h + corners[i].first, left = s.column * p.stride_w + corners[i].second;
      const float* w = weights[i].data() + static_cast<std::size_t>(s.channel) * b.taps();
      for (int y = 0; y < b.kernel_h; y++) {
        const int row = top + y * b.dilation_h;
        if (row < 0 || row >= p.height) continue;
        for (int x = 0; x < b.kernel_w; x++) {
          const int column = left + x * b.dilation_w;
          if (column < 0 || column >= p.width) continue;
          sum += static_cast<double>(w[y * b.kernel_w + x]) *
                 source(s.image, s.channel / p.multiplier, row, column);
        }
      }
    }
    sum = activate(sum, p.epilogue.activation);
    if (p.epilogue.scale && !scale.empty()) sum *= scale[s.channel];
    if (p.epilogue.residual) sum += residual(s.image, s.channel, s.row, s.column);
    results.push_back(sum);
  }
  return results;
}

Accuracy compare(const Problem& p, std::span<const std::span<const float>> weights,
                 std::span<const float> bias, const Tensors& tensors, std::span<const Sample> samples,
                 std::span<const double> expected, std::span<const float> factors) {
  using Plane = std::pair<std::int64_t, int>;
  const Reader source(p.type, p.input_strides(), tensors.src);
  const Reader result(p.output_type(), p.output_strides(), tensors.dst);
  struct Scale {
    double largest = 0, largest_sum = 0, norms = 0;
  };
  std::map<Plane, Scale> scales;
  // ReLU may drop all but a trifle of a channel, a bias or residual may cancel most of it, and GELU turns
  // what a bias has made large and negative into next to nothing: the sums count, without and with the bias.
  Problem bare = p;
  bare.epilogue = {.bias = false};
  const std::vector<double> sums = bare.epilogue == p.epilogue
                                       ? std::vector<double>(expected.begin(), expected.end())
                                       : reference(bare, weights, {}, tensors, samples);
  const auto bias_of = [&](int channel) {
    return p.epilogue.bias && !bias.empty() ? double{bias[channel]} : 0;
  };
  for (std::size_t i = 0; i < samples.size(); i++) {
    Scale& scale = scales[{samples[i].image, samples[i].channel}];
    if (std::isfinite(expected[i])) scale.largest = std::max(scale.largest, std::fabs(expected[i]));
    if (std::isfinite(sums[i]))
      scale.largest_sum =
          std::max({scale.largest_sum, std::fabs(sums[i]), std::fabs(sums[i] + bias_of(samples[i].channel))});
  }
  for (auto& [plane, scale] : scales) {
    double w2 = 0, x2 = 0;
    for (std::size_t i = 0; i < p.branches.size(); i++) {
      const int taps = p.branches[i].taps();
      for (int t = 0; t < taps; t++)
        w2 += std::pow(weights[i][static_cast<std::size_t>(plane.second) * taps + t], 2);
    }
    for (int y = 0; y < p.height; y++)
      for (int x = 0; x < p.width; x++)
        x2 += std::pow(source(plane.first, plane.second / p.multiplier, y, x), 2);
    scale.norms = std::sqrt(w2) * std::sqrt(x2);
  }
  Accuracy accuracy;
  for (std::size_t i = 0; i < samples.size(); i++) {
    const Sample& s = samples[i];
    const Scale& scale = scales[{s.image, s.channel}];
    // What u8 cannot hold is clamped; a NaN becomes 0.
    const double stored = p.output_type() != DataType::u8 ? expected[i]
                          : std::isnan(expected[i])       ? 0
                                                          : std::clamp(expected[i], 0.0, 255.0);
    const double error = deviation(result(s.image, s.channel, s.row, s.column), stored);
    if (error == 0) continue;
    const double norms = std::isfinite(scale.norms) ? scale.norms : 0;
    const double factor = p.epilogue.scale && !factors.empty() ? std::fabs(factors[s.channel]) : 1;
    const double allowed =
        std::max({1e-6 * scale.largest, 1e-6 * factor * scale.largest_sum, factor * std::ldexp(norms, -24)}) +
        half_ulp(expected[i], p.output_type());
    accuracy.max_relative_error = std::max(accuracy.max_relative_error, error / scale.largest);
    accuracy.max_of_allowed = std::max(accuracy.max_of_allowed, error / allowed);
  }
  return accuracy;
}

}  // namespace replk::depthwise
