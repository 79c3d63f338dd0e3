#include "depthwise/rescue.hpp"

#include <algorithm>
#include <atomic>
#include <bit>
#include <cmath>
#include <cstdint>
#include <limits>

#include "core/half.hpp"
#include "core/memory.hpp"
#include "core/threads.hpp"

namespace replk::depthwise {
namespace {

/// How far a value within an algorithm may exceed the largest input times the sum of |w|, or either alone: a
/// transform adds up 320 x 160 values, Gauss's and three of Karatsuba's products double both factors four
/// times, and the way back adds up as many again as the weights have been divided by.
constexpr float growth = 0x1p24f, largest = 0x1p128 / growth;

/// Elements of a tensor between neighbours.
struct Strides {
  std::int64_t image, row, pixel, channel;
  Strides(const Problem& p, std::int64_t height, std::int64_t width)
      : image(height * width * p.channels),
        row(p.layout == Layout::nhwc ? width * p.channels : width),
        pixel(p.layout == Layout::nhwc ? p.channels : 1),
        channel(p.layout == Layout::nhwc ? 1 : height * width) {}
};

double activate(double x, Activation activation) {
  switch (activation) {
    case Activation::none:
      return x;
    case Activation::relu:
      return std::max(x, 0.0);
    case Activation::gelu:
      return 0.5 * x * std::erfc(-x * std::sqrt(0.5));
  }
  return x;
}

template <class Function>
void with_type(DataType type, const Function& function) {
  switch (type) {
    case DataType::f32:
      return function(float{});
    case DataType::bf16:
      return function(core::Bf16{});
    case DataType::f16:
      return function(core::F16{});
  }
}

}  // namespace

Rescue::Rescue(const Problem& problem, Kernel kernel) : problem_(problem), kernel_(std::move(kernel)) {
  core::keep_pages_small(kernel_.weights.data(), kernel_.weights.size() * sizeof(float));
  std::vector<double> norms(problem.channels, 0.0);
  for (std::size_t i = 0; i < kernel_.weights.size(); i++)
    norms[i % norms.size()] += std::fabs(double{kernel_.weights[i]});
  for (int c = 0; c < problem.channels; c++) {
    const double bias = std::fabs(double{kernel_.bias[c]});
    if (!std::isfinite(norms[c] + bias)) {
      limits_.push_back(std::numeric_limits<float>::infinity());
    } else if (norms[c] > largest || bias > largest) {
      limits_.push_back(0);
      always_ = always_ || norms[c] > largest;
    } else {
      limits_.push_back(static_cast<float>(largest / std::max(norms[c], 1.0)));
    }
  }
}

/// A bit for each of the channels that has a number from its limit on, and no NaN or infinity.
template <class T>
unsigned Rescue::large_channels(const T* src, std::int64_t image, int first, int count) const {
  const Strides at(problem_, problem_.height, problem_.width);
  float most[lanes] = {}, invalid[lanes] = {};  // the second stays 0 but for a NaN or an infinity
  for (int y = 0; y < problem_.height; y++)
    for (int x = 0; x < problem_.width; x++) {
      const T* pixel = src + image * at.image + y * at.row + x * at.pixel + first * at.channel;
      for (int c = 0; c < count; c++) {
        const float value = std::fabs(core::to_float(pixel[c * at.channel]));
        most[c] = value > most[c] ? value : most[c];
        invalid[c] += value * 0.0f;
      }
    }
  unsigned chosen = 0;
  for (int c = 0; c < count; c++) chosen |= unsigned{invalid[c] == 0 && most[c] >= limits_[first + c]} << c;
  return chosen;
}

bool Rescue::may_be_needed(const void* src, int threads) const {
  constexpr std::int64_t share = 1 << 16;  // elements a task
  const std::int64_t elements = problem_.input_elements();
  const auto least = std::bit_cast<std::int32_t>(*std::min_element(limits_.begin(), limits_.end()));
  std::atomic<bool> found{false};
  with_type(problem_.type, [&](auto type) {
    using T = decltype(type);
    const auto body = [&](std::int64_t task, int) {
      const T* x = static_cast<const T*>(src) + task * share;
      const std::int64_t count = std::min(share, elements - task * share);
      int large = 0;  // the bits of floats without their signs are ordered as the floats are
      for (std::int64_t i = 0; i < count; i++)
        large |= (std::bit_cast<std::int32_t>(core::to_float(x[i])) & INT32_MAX) >= least;
      if (large) found = true;
    };
    core::parallel_for((elements + share - 1) / share, threads, std::ref(body));
  });
  return found;
}

template <class T>
void Rescue::output(const Tensors& tensors, std::int64_t image, int first, int count, unsigned chosen,
                    int row, int column) const {
  const Problem& p = problem_;
  const Strides in(p, p.height, p.width), out(p, p.out_height(), p.out_width());
  const int top = row * p.stride_h + kernel_.offset_h, left = column * p.stride_w + kernel_.offset_w;
  const T* src = static_cast<const T*>(tensors.src) + image * in.image + first * in.channel;
  double sums[lanes];
  for (int c = 0; c < count; c++) sums[c] = kernel_.bias[first + c];
  for (int a = std::max(0, -top); a < std::min(kernel_.height, p.height - top); a++)
    for (int b = std::max(0, -left); b < std::min(kernel_.width, p.width - left); b++) {
      if (!kernel_.has(a, b)) continue;
      const T* x = src + (top + a) * in.row + (left + b) * in.pixel;
      const float* w = kernel_.at(a, b) + first;
      for (int c = 0; c < count; c++) sums[c] += double{w[c]} * core::to_float(x[c * in.channel]);
    }
  for (int c = 0; c < count; c++) {
    if (!(chosen >> c & 1)) continue;
    const std::int64_t at =
        image * out.image + row * out.row + column * out.pixel + (first + c) * out.channel;
    double value = activate(sums[c], p.epilogue.activation);
    if (p.epilogue.residual) value += core::to_float(static_cast<const T*>(tensors.residual)[at]);
    static_cast<T*>(tensors.dst)[at] = core::from_float<T>(static_cast<float>(value));
  }
}

template <class T>
void Rescue::run_task(const Tensors& tensors, std::int64_t task) const {
  const std::int64_t image = task / blocks();
  const int first = static_cast<int>(task % blocks()) * lanes,
            count = std::min(lanes, problem_.channels - first);
  const unsigned chosen = large_channels(static_cast<const T*>(tensors.src), image, first, count);
  if (chosen == 0) return;
  for (int y = 0; y < problem_.out_height(); y++)
    for (int x = 0; x < problem_.out_width(); x++) output<T>(tensors, image, first, count, chosen, y, x);
}

void Rescue::run(const Tensors& tensors, int threads) const {
  with_type(problem_.type, [&](auto type) {
    const auto body = [&](std::int64_t task, int) { run_task<decltype(type)>(tensors, task); };
    core::parallel_for(problem_.batch * blocks(), threads, std::ref(body));
  });
}

}  // namespace replk::depthwise
