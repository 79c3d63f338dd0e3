// The method is that of Pillow's documentation and of its tests: a separable convolution with Keys' cubic (a
// = -1/2) whose support widens with the reduction, coefficients normalised in double and then rounded to 22
// fractional bits, each of the two passes rounded to bytes.
#include "image/resize.hpp"

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <vector>

#include "core/error.hpp"

namespace replk::image {
namespace {

constexpr int fraction_bits = 22;  // a byte times a coefficient of magnitude below 2 stays within 32 bits
constexpr double cubic_support = 2;

// R. Keys, "Cubic convolution interpolation for digital image processing", 1981, with a = -1/2.
double cubic(double x) {
  constexpr double a = -0.5;
  x = std::abs(x);
  if (x < 1) return ((a + 2) * x - (a + 3)) * x * x + 1;
  if (x < 2) return (((x - 5) * x + 8) * x - 4) * a;
  return 0;
}

// What each output coordinate of an axis is made of: taps input coordinates from `first` on, weighted.
struct Axis {
  struct Sample {
    int first, taps;
    const std::int32_t* weights;
  };
  std::vector<Sample> samples;
  std::vector<std::int32_t> weights;

  int first() const { return samples.front().first; }
  int last() const { return samples.back().first + samples.back().taps; }
};

// Output coordinates [begin, begin + count) of an axis resampled from `input` to `output` coordinates.
Axis make_axis(int input, int output, int begin, int count) {
  const double scale = static_cast<double>(input) / output;
  const double widening = std::max(scale, 1.0);
  const double support = cubic_support * widening;
  const double step = 1.0 / widening;
  const std::size_t most_taps = static_cast<std::size_t>(std::ceil(support)) * 2 + 1;

  Axis axis;
  axis.samples.reserve(count);
  axis.weights.reserve(count * std::min<std::size_t>(most_taps, input));
  std::vector<double> exact(most_taps);
  for (int i = begin; i < begin + count; ++i) {
    const double center = (i + 0.5) * scale;
    const int first = std::max(static_cast<int>(center - support + 0.5), 0);
    const int taps = std::min(static_cast<int>(center + support + 0.5), input) - first;
    double sum = 0;
    for (int t = 0; t < taps; ++t) {
      exact[t] = cubic((t + first - center + 0.5) * step);
      sum += exact[t];
    }
    for (int t = 0; t < taps; ++t) {
      const double weight = (sum != 0 ? exact[t] / sum : exact[t]) * (1 << fraction_bits);
      axis.weights.push_back(static_cast<std::int32_t>(weight < 0 ? weight - 0.5 : weight + 0.5));
    }
    axis.samples.push_back({first, taps, nullptr});
  }
  const std::int32_t* weights = axis.weights.data();
  for (Axis::Sample& sample : axis.samples) {
    sample.weights = weights;
    weights += sample.taps;
  }
  return axis;
}

std::uint8_t to_byte(std::int32_t sum) {
  return static_cast<std::uint8_t>(std::clamp(sum >> fraction_bits, 0, 255));
}

constexpr std::int32_t half = 1 << (fraction_bits - 1);

// Resamples along the rows: the result has the rows [first_row, first_row + rows) of the source. Column 0 of
// the source is column first_column of the picture that `axis` speaks of.
Image resample_columns(const Image& source, const Axis& axis, int first_row, int rows, int first_column) {
  Image result(rows, static_cast<int>(axis.samples.size()));
  for (int y = 0; y < rows; ++y) {
    const std::uint8_t* from = source.row(first_row + y);
    std::uint8_t* to = result.row(y);
    for (const Axis::Sample& sample : axis.samples) {
      const std::uint8_t* pixel = from + static_cast<std::size_t>(sample.first - first_column) * 3;
      std::int32_t red = half, green = half, blue = half;
      for (int t = 0; t < sample.taps; ++t, pixel += 3) {
        red += pixel[0] * sample.weights[t];
        green += pixel[1] * sample.weights[t];
        blue += pixel[2] * sample.weights[t];
      }
      *to++ = to_byte(red);
      *to++ = to_byte(green);
      *to++ = to_byte(blue);
    }
  }
  return result;
}

// The same down the columns: the result has the columns [first_column, first_column + columns) of the source,
// whose row 0 is row first_row of the picture.
Image resample_rows(const Image& source, const Axis& axis, int first_row, int first_column, int columns) {
  Image result(static_cast<int>(axis.samples.size()), columns);
  std::vector<std::int32_t> sums(static_cast<std::size_t>(columns) * 3);
  for (int y = 0; y < result.height; ++y) {
    const Axis::Sample& sample = axis.samples[y];
    std::fill(sums.begin(), sums.end(), half);
    for (int t = 0; t < sample.taps; ++t) {
      const std::uint8_t* from =
          source.row(sample.first - first_row + t) + static_cast<std::size_t>(first_column) * 3;
      const std::int32_t weight = sample.weights[t];
      for (std::size_t i = 0; i < sums.size(); ++i) sums[i] += from[i] * weight;
    }
    std::transform(sums.begin(), sums.end(), result.row(y), to_byte);
  }
  return result;
}

// Which pass goes first shows in the bytes, since the first one is rounded. Pillow 13 (pull request 9549)
// begins with the rows where the height loses more than twice what the width does; the versions before it
// always begin with the columns.
bool rows_go_first(const Image& source, int height, int width) {
  return height < source.height && source.height - height > 2 * (source.width - width);
}

void check(const Image& source, int height, int width, const Window& window) {
  constexpr int largest = 1 << 26;
  if (source.height < 1 || source.width < 1)
    core::fail(core::Status::invalid_argument, "resize: the source is empty");
  if (height < 1 || height > largest || width < 1 || width > largest) {
    core::fail(core::Status::invalid_argument, "resize: size {}x{} is outside 1..{} a side", height, width,
               largest);
  }
  if (window.top < 0 || window.left < 0 || window.height < 1 || window.width < 1 ||
      window.height > height - window.top || window.width > width - window.left) {
    core::fail(core::Status::invalid_argument, "resize: window {}x{} at ({}, {}) is not within {}x{}",
               window.height, window.width, window.top, window.left, height, width);
  }
  if (std::max(window.height, window.width) > max_side ||
      static_cast<std::int64_t>(window.height) * window.width > max_pixels) {
    core::fail(core::Status::invalid_argument, "resize: {}x{} pixels are more than {} a side or {} in all",
               window.height, window.width, max_side, max_pixels);
  }
}

}  // namespace

Image resize_bicubic(const Image& source, int height, int width, const Window& window) {
  check(source, height, width, window);
  // An axis that keeps its size gets the weights of the identity, so it needs no case of its own.
  const Axis rows = make_axis(source.height, height, window.top, window.height);
  const Axis columns = make_axis(source.width, width, window.left, window.width);
  if (rows_go_first(source, height, width)) {
    const Image low = resample_rows(source, rows, 0, columns.first(), columns.last() - columns.first());
    return resample_columns(low, columns, 0, window.height, columns.first());
  }
  const Image narrow = resample_columns(source, columns, rows.first(), rows.last() - rows.first(), 0);
  return resample_rows(narrow, rows, rows.first(), 0, window.width);
}

Image resize_bicubic(const Image& source, int height, int width) {
  return resize_bicubic(source, height, width, {0, 0, height, width});
}

}  // namespace replk::image
