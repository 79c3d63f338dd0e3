#include "depthwise/gradient/weight_reference.hpp"

#include <algorithm>
#include <cmath>
#include <limits>
#include <utility>

#include "depthwise/problem/reader.hpp"

namespace replk::depthwise {
namespace {

constexpr int few_taps = 8;  // may all be small by chance

/// Where tap (0, 0) of a branch meets the input for output (0, 0), from the padding of the branch alone.
std::pair<int, int> corner(const Problem& p, const Branch& branch) {
  Problem bounding = p, alone = p;
  alone.branches = {branch};
  set_default_padding(bounding);
  set_default_padding(alone);
  return {bounding.pad_h.before - alone.pad_h.before - p.pad_h.before,
          bounding.pad_w.before - alone.pad_w.before - p.pad_w.before};
}

/// One tap of one channel: the sum over images and outputs.
double tap(const Problem& p, const Reader& src, const Reader& dy, int channel, int top, int left) {
  double sum = 0;
  for (std::int64_t n = 0; n < p.batch; n++)
    for (int y = 0; y < p.out_height(); y++) {
      const int row = y * p.stride_h + top;
      if (row < 0 || row >= p.height) continue;
      for (int x = 0; x < p.out_width(); x++) {
        const int column = x * p.stride_w + left;
        if (column < 0 || column >= p.width) continue;
        sum += static_cast<double>(dy(n, channel, y, x)) * src(n, channel / p.multiplier, row, column);
      }
    }
  return sum;
}

/// The norm of a channel's dy times that of its input.
double norms(const Problem& p, const Reader& src, const Reader& dy, int channel) {
  const auto squares = [&](const Reader& read, int its, int height, int width) {
    double sum = 0;
    for (std::int64_t n = 0; n < p.batch; n++)
      for (int y = 0; y < height; y++)
        for (int x = 0; x < width; x++) sum += std::pow(read(n, its, y, x), 2);
    return sum;
  };
  return std::sqrt(squares(src, channel / p.multiplier, p.height, p.width) *
                   squares(dy, channel, p.out_height(), p.out_width()));
}

double error(double got, double wanted, double scale) {
  if (std::isnan(wanted) ? std::isnan(got) : got == wanted) return 0;
  const double error = std::fabs(got - wanted);
  return std::isfinite(error) ? error / scale : std::numeric_limits<double>::infinity();
}

}  // namespace

WeightReference weight_reference(const Problem& p, const void* src, const void* dy,
                                 std::vector<int> channels) {
  const Reader input(p.type, p.input_strides(), src), output(p.type, p.output_strides(), dy);
  WeightReference r;
  r.channels = std::move(channels);
  r.largest.assign(r.channels.size(), 0);
  for (const Branch& b : p.branches) {
    const auto [top, left] = corner(p, b);
    std::vector<double>& dw = r.dweights.emplace_back();
    for (std::size_t i = 0; i < r.channels.size(); i++)
      for (int y = 0; y < b.kernel_h; y++)
        for (int x = 0; x < b.kernel_w; x++) {
          dw.push_back(tap(p, input, output, r.channels[i], top + y * b.dilation_h, left + x * b.dilation_w));
          if (std::isfinite(dw.back())) r.largest[i] = std::max(r.largest[i], std::fabs(dw.back()));
        }
  }
  std::int64_t meeting = 0;  // taps that meet the map
  for (const Branch& b : p.branches)
    meeting += std::int64_t{p.vertical(b).reach().size()} * p.horizontal(b).reach().size();
  for (std::size_t i = 0; meeting < few_taps && i < r.channels.size(); i++)
    r.largest[i] = std::max(r.largest[i], norms(p, input, output, r.channels[i]) / 16);
  for (const int channel : r.channels) {
    double sum = 0, squares = 0;
    for (std::int64_t n = 0; n < p.batch; n++)
      for (int y = 0; y < p.out_height(); y++)
        for (int x = 0; x < p.out_width(); x++) {
          const double value = output(n, channel, y, x);
          sum += value;
          squares += value * value;
        }
    r.dbias.push_back(sum);
    r.bias_norm.push_back(std::max(std::sqrt(squares), std::fabs(sum)));
  }
  return r;
}

double weight_error(const Problem& p, const WeightReference& expected, std::span<float* const> dweights,
                    const float* dbias) {
  double worst = 0;
  for (std::size_t i = 0; i < expected.channels.size(); i++) {
    const int channel = expected.channels[i];
    for (std::size_t branch = 0; branch < p.branches.size(); branch++) {
      const std::size_t taps = static_cast<std::size_t>(p.branches[branch].taps());
      if (!dweights[branch]) continue;
      for (std::size_t t = 0; t < taps; t++)
        worst = std::max(worst, error(dweights[branch][channel * taps + t],
                                      expected.dweights[branch][i * taps + t], expected.largest[i]));
    }
    if (dbias) worst = std::max(worst, error(dbias[channel], expected.dbias[i], expected.bias_norm[i]));
  }
  return worst;
}

}  // namespace replk::depthwise
