#include "depthwise/gradient/input_reference.hpp"

#include <algorithm>
#include <cmath>

#include "depthwise/problem/corner.hpp"
#include "depthwise/problem/reader.hpp"

namespace replk::depthwise {
namespace {

/// Adds what a branch of output channel o does.
void spread(const Problem& p, const Branch& b, const float* weights, const Reader& dy, int o,
            InputReference::Plane& plane) {
  const auto [top, left] = corner(p, b);
  for (int y = 0; y < p.out_height(); y++)
    for (int x = 0; x < p.out_width(); x++) {
      const double value = dy(plane.image, o, y, x);
      for (int i = 0; i < b.kernel_h; i++)
        for (int j = 0; j < b.kernel_w; j++) {
          const int row = y * p.stride_h + top + i * b.dilation_h,
                    column = x * p.stride_w + left + j * b.dilation_w;
          if (row >= 0 && row < p.height && column >= 0 && column < p.width)
            plane.dx[static_cast<std::size_t>(row) * p.width + column] += value * weights[i * b.kernel_w + j];
        }
    }
}

double norms(const Problem& p, std::span<const std::span<const float>> weights, const Reader& dy,
             std::int64_t image, int o) {
  double w2 = 0, y2 = 0;
  for (std::size_t i = 0; i < p.branches.size(); i++) {
    const int taps = p.branches[i].taps();
    for (int t = 0; t < taps; t++) w2 += std::pow(weights[i][static_cast<std::size_t>(o) * taps + t], 2);
  }
  for (int y = 0; y < p.out_height(); y++)
    for (int x = 0; x < p.out_width(); x++) y2 += std::pow(dy(image, o, y, x), 2);
  return std::sqrt(w2) * std::sqrt(y2);
}

}  // namespace

InputReference input_reference(const Problem& p, std::span<const std::span<const float>> weights,
                               const void* dy, const std::vector<std::pair<std::int64_t, int>>& planes) {
  const Reader output(p.type, p.output_strides(), dy);
  std::vector<std::pair<std::int64_t, int>> all = planes;
  for (std::int64_t n = 0; planes.empty() && n < p.batch; n++)
    for (int c = 0; c < p.input_channels(); c++) all.emplace_back(n, c);
  InputReference r;
  for (const auto& [image, channel] : all) {
    InputReference::Plane& plane = r.planes.emplace_back();
    plane.image = image;
    plane.channel = channel;
    plane.dx.assign(static_cast<std::size_t>(p.height) * p.width, 0);
    for (int o = channel * p.multiplier; o < (channel + 1) * p.multiplier; o++) {
      for (std::size_t i = 0; i < p.branches.size(); i++) {
        const Branch& b = p.branches[i];
        spread(p, b, weights[i].data() + static_cast<std::size_t>(o) * b.taps(), output, o, plane);
      }
      plane.norms += norms(p, weights, output, image, o);
    }
  }
  return r;
}

Accuracy input_error(const Problem& p, const InputReference& expected, const void* dx) {
  const Reader got(p.type, p.input_strides(), dx);
  Accuracy worst;
  for (const InputReference::Plane& plane : expected.planes) {
    double largest = 0;
    for (const double value : plane.dx)
      if (std::isfinite(value)) largest = std::max(largest, std::fabs(value));
    const double norms = std::isfinite(plane.norms) ? plane.norms : 0;
    for (int y = 0; y < p.height; y++)
      for (int x = 0; x < p.width; x++) {
        const double wanted = plane.dx[static_cast<std::size_t>(y) * p.width + x],
                     error = deviation(got(plane.image, plane.channel, y, x), wanted);
        if (error == 0) continue;
        const double allowed = std::max(1e-6 * largest, std::ldexp(norms, -24)) + half_ulp(wanted, p.type);
        worst.max_relative_error = std::max(worst.max_relative_error, error / largest);
        worst.max_of_allowed = std::max(worst.max_of_allowed, error / allowed);
      }
  }
  return worst;
}

}  // namespace replk::depthwise
