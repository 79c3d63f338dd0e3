#include "depthwise/gradient/weight_reference.hpp"

#include <algorithm>
#include <cmath>
#include <numeric>
#include <utility>

#include "depthwise/problem/corner.hpp"
#include "depthwise/problem/reader.hpp"
#include "depthwise/problem/reference.hpp"

namespace replk::depthwise {
namespace {

constexpr int few_taps = 8;  // may all be small by chance

/// A channel of a tensor: [images][rows][columns].
struct Maps {
  int height, width;
  std::vector<double> values;
  Maps(const Reader& read, std::int64_t images, int channel, int height, int width)
      : height(height), width(width) {
    for (std::int64_t n = 0; n < images; n++)
      for (int y = 0; y < height; y++)
        for (int x = 0; x < width; x++) values.push_back(read(n, channel, y, x));
  }
  const double* row(std::int64_t n, int y) const { return values.data() + (n * height + y) * width; }
};

/// One tap: the sum over images and outputs.
double tap(const Problem& p, const Maps& src, const Maps& dy, int top, int left) {
  double sum = 0;
  for (std::int64_t n = 0; n < p.batch; n++)
    for (int y = 0; y < dy.height; y++) {
      const int row = y * p.stride_h + top;
      if (row < 0 || row >= src.height) continue;
      for (int x = 0; x < dy.width; x++) {
        const int column = x * p.stride_w + left;
        if (column < 0 || column >= src.width) continue;
        sum += dy.row(n, y)[x] * src.row(n, row)[column];
      }
    }
  return sum;
}

double squares(const Maps& maps) {
  double sum = 0;
  for (const double value : maps.values) sum += value * value;
  return sum;
}

}  // namespace

WeightReference weight_reference(const Problem& p, const void* src, const void* dy,
                                 std::vector<int> channels) {
  const Reader input(p.type, p.input_strides(), src), output(p.type, p.output_strides(), dy);
  WeightReference r;
  r.channels = std::move(channels);
  r.dweights.resize(p.branches.size());
  std::int64_t meeting = 0;  // taps that meet the map
  for (const Branch& b : p.branches)
    meeting += std::int64_t{p.vertical(b).reach().size()} * p.horizontal(b).reach().size();
  for (const int channel : r.channels) {
    const Maps x(input, p.batch, channel / p.multiplier, p.height, p.width),
        y(output, p.batch, channel, p.out_height(), p.out_width());
    double largest = meeting < few_taps ? std::sqrt(squares(x) * squares(y)) / 16 : 0;
    for (std::size_t i = 0; i < p.branches.size(); i++) {
      const Branch& b = p.branches[i];
      const auto [top, left] = corner(p, b);
      for (int t = 0; t < b.taps(); t++) {
        const int row = t / b.kernel_w, column = t % b.kernel_w;
        const double dw = tap(p, x, y, top + row * b.dilation_h, left + column * b.dilation_w);
        r.dweights[i].push_back(dw);
        if (std::isfinite(dw)) largest = std::max(largest, std::fabs(dw));
      }
    }
    r.largest.push_back(largest);
    r.dbias.push_back(std::accumulate(y.values.begin(), y.values.end(), 0.0));
    r.bias_norm.push_back(std::max(std::sqrt(squares(y)), std::fabs(r.dbias.back())));
  }
  return r;
}

double weight_error(const Problem& p, const WeightReference& expected, std::span<float* const> dweights,
                    const float* dbias) {
  double worst = 0;
  const auto count = [&](double got, double wanted, double scale) {
    const double error = deviation(got, wanted);
    if (error > 0) worst = std::max(worst, std::isinf(error) ? error : error / scale);
  };
  for (std::size_t i = 0; i < expected.channels.size(); i++) {
    const int channel = expected.channels[i];
    for (std::size_t branch = 0; branch < p.branches.size(); branch++) {
      const std::size_t taps = static_cast<std::size_t>(p.branches[branch].taps());
      if (!dweights[branch]) continue;
      for (std::size_t t = 0; t < taps; t++)
        count(dweights[branch][channel * taps + t], expected.dweights[branch][i * taps + t],
              expected.largest[i]);
    }
    if (dbias) count(dbias[channel], expected.dbias[i], expected.bias_norm[i]);
  }
  return worst;
}

}  // namespace replk::depthwise
