#include "dense/plain.hpp"

#include <algorithm>
#include <cmath>
#include <cstring>

#include "core/threads.hpp"
#include "dense/constants.hpp"
#include "dense/weights.hpp"

namespace replk::dense {
namespace {

constexpr int tile_pixels = constants.tile_pixels, tile_outputs = constants.tile_outputs,
              lanes = constants.lanes;
using Vector = float __attribute__((vector_size(lanes * sizeof(float))));

Vector load(const float* p) {
  Vector v;
  std::memcpy(&v, p, sizeof v);
  return v;
}

/// sums[p][o] += x[p] . w[o] over `count` elements, rows of w `stride` apart.
void dot_tile(const float* const x[tile_pixels], const float* const w[tile_outputs], int count,
              float sums[tile_pixels][tile_outputs]) {
  Vector part[tile_pixels][tile_outputs] = {};
  int i = 0;
  for (; i + lanes <= count; i += lanes)
    for (int p = 0; p < tile_pixels; p++)
      for (int o = 0; o < tile_outputs; o++) part[p][o] += load(x[p] + i) * load(w[o] + i);
  for (int p = 0; p < tile_pixels; p++)
    for (int o = 0; o < tile_outputs; o++) {
      for (int j = 0; j < lanes; j++) sums[p][o] += part[p][o][j];
      for (int j = i; j < count; j++) sums[p][o] += x[p][j] * w[o][j];
    }
}

float activate(float x, Activation activation) {
  switch (activation) {
    case Activation::relu:
      return x > 0 ? x : (x != x ? x : 0.0f);
    case Activation::gelu:
      return 0.5f * x * (1.0f + std::erf(x * 0.70710678f));
    default:
      return x;
  }
}

/// Register tiles of pixels by outputs, each a sum of dot products over the taps that meet the map. A linear
/// layer is the convolution of a one-row map with a 1x1 kernel.
class PlainEngine final : public Engine {
 public:
  PlainEngine(const Convolution& c, PackedWeights& weights, int threads)
      : c_(c),
        weights_(weights.plain(threads)),
        bias_(&weights.bias()),
        zeros_(c.inputs, true),
        threads_(threads) {}

  std::string implementation() const override { return "plain"; }
  std::size_t scratch_bytes() const override { return 0; }

  void run(const LinearRun& r) const override {
    const auto* const src = r.src.as<float>();
    const std::int64_t pixels = c_.batch * c_.out_height() * c_.out_width();
    // Few pixels with many outputs (a head) are split over outputs too.
    constexpr std::int64_t pixel_block = constants.pixel_block, output_block = constants.output_block;
    const std::int64_t across = (c_.outputs + output_block - 1) / output_block;
    core::parallel_for(
        (pixels + pixel_block - 1) / pixel_block * across, threads_, [&](std::int64_t task, int) {
          const std::int64_t first = task / across * pixel_block, output = task % across * output_block;
          const std::int64_t last = std::min(pixels, first + pixel_block);
          const int output_end = int(std::min<std::int64_t>(c_.outputs, output + output_block));
          for (std::int64_t p = first; p < last; p += tile_pixels)
            for (int o = int(output); o < output_end; o += tile_outputs)
              tile(src, r.dst, r.residual, p, int(std::min<std::int64_t>(tile_pixels, last - p)), o,
                   std::min(tile_outputs, output_end - o));
        });
  }

 private:
  /// The pixel of the input under tap (a, b) of output pixel p; zeros outside the map.
  const float* input(const float* src, std::int64_t p, int a, int b) const {
    const std::int64_t column = p % c_.out_width(), row = p / c_.out_width() % c_.out_height();
    const std::int64_t image = p / c_.out_width() / c_.out_height();
    const std::int64_t y = row * c_.stride_h + a - c_.pad_h, x = column * c_.stride_w + b - c_.pad_w;
    if (y < 0 || y >= c_.height || x < 0 || x >= c_.width) return zeros_.data();
    return src + ((image * c_.height + y) * c_.width + x) * c_.inputs;
  }

  void tile(const float* src, float* dst, const float* residual, std::int64_t pixel, int pixels, int output,
            int outputs) const {
    float sums[tile_pixels][tile_outputs] = {};
    for (int a = 0; a < c_.kernel_h; a++)
      for (int b = 0; b < c_.kernel_w; b++) {
        // A tile over the edge repeats its last pixel and output; what is not stored costs nothing.
        const float *x[tile_pixels], *w[tile_outputs];
        for (int p = 0; p < tile_pixels; p++) x[p] = input(src, pixel + std::min(p, pixels - 1), a, b);
        for (int o = 0; o < tile_outputs; o++)
          w[o] = weights_->data() +
                 ((std::size_t(output + std::min(o, outputs - 1)) * c_.kernel_h + a) * c_.kernel_w + b) *
                     c_.inputs;
        dot_tile(x, w, c_.inputs, sums);
      }
    for (int p = 0; p < pixels; p++)
      for (int o = 0; o < outputs; o++) {
        const std::int64_t at = (pixel + p) * c_.outputs + output + o;
        const float bias = bias_->size() > 0 ? (*bias_)[output + o] : 0.0f;
        const float value = activate(sums[p][o] + bias, c_.activation);
        dst[at] = residual ? value + residual[at] : value;
      }
  }

  Convolution c_;
  PackedWeights::Form weights_;
  const core::Buffer<float>* bias_;
  core::Buffer<float> zeros_;
  int threads_;
};

}  // namespace

Convolution as_convolution(const Linear& linear) {
  Convolution c;
  c.batch = linear.rows;
  c.inputs = linear.inputs;
  c.outputs = linear.outputs;
  c.bias = linear.bias;
  c.activation = linear.activation;
  return c;
}

std::unique_ptr<Engine> plain_linear(const Linear& linear, PackedWeights& weights, int threads) {
  return std::make_unique<PlainEngine>(as_convolution(linear), weights, threads);
}

std::unique_ptr<Engine> plain_convolution(const Convolution& convolution, PackedWeights& weights,
                                          int threads) {
  return std::make_unique<PlainEngine>(convolution, weights, threads);
}

}  // namespace replk::dense
