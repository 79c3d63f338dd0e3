#include <algorithm>
#include <cmath>

#include "core/swish.hpp"
#include "core/threads.hpp"
#include "elementwise/elementwise.hpp"
#include "elementwise/gradient.hpp"
#include "elementwise/narrow.hpp"
#include "simd/dispatch.hpp"

namespace replk::elementwise {
namespace {

constexpr int lanes = 32;  // partial sums: enough to hide the latency of an addition at any vector width

template <class Value>
REPLK_INLINE float sum(int count, Value value) {
  float part[lanes] = {};
  int i = 0;
  for (; i + lanes <= count; i += lanes)
    for (int j = 0; j < lanes; j++) part[j] += value(i + j);
  for (int j = 0; i + j < count; j++) part[j] += value(i + j);
  for (int half = lanes / 2; half > 0; half /= 2)
    for (int j = 0; j < half; j++) part[j] += part[j + half];
  return part[0];
}

/// Of one row; scale is one over the deviation.
struct Statistics {
  float mean, scale;
};
REPLK_INLINE Statistics statistics(const LayerNorm& norm, const float* src) {
  const int channels = norm.channels;
  const float mean = sum(
                         channels, [&](int c) __attribute__((always_inline)) { return src[c]; }) /
                     float(channels);
  const float squares = sum(
      channels, [&](int c) __attribute__((always_inline)) {
        const float d = src[c] - mean;
        return d * d;
      });
  return {mean, 1.0f / std::sqrt(squares / float(channels) + norm.epsilon)};
}

template <class Fma>
REPLK_INLINE void normalise_body(const LayerNorm& norm, const float* weight, const float* bias,
                                 const float* src, float* dst, std::int64_t rows) {
  const int channels = norm.channels;
  for (std::int64_t r = 0; r < rows; r++, src += channels, dst += channels) {
    const auto [mean, scale] = statistics(norm, src);
    switch (norm.activation) {
      case Activation::none:
        for (int c = 0; c < channels; c++) dst[c] = (src[c] - mean) * scale * weight[c] + bias[c];
        break;
      case Activation::relu:
        for (int c = 0; c < channels; c++) dst[c] = core::relu((src[c] - mean) * scale * weight[c] + bias[c]);
        break;
      case Activation::gelu:
        for (int c = 0; c < channels; c++)
          dst[c] = core::gelu((src[c] - mean) * scale * weight[c] + bias[c], Fma());
        break;
      case Activation::silu:
        for (int c = 0; c < channels; c++)
          dst[c] = core::silu((src[c] - mean) * scale * weight[c] + bias[c], Fma());
        break;
      case Activation::hard_swish:
        for (int c = 0; c < channels; c++)
          dst[c] = core::hard_swish((src[c] - mean) * scale * weight[c] + bias[c], Fma());
        break;
    }
  }
}

REPLK_DISPATCH(normalise,
               (const LayerNorm& norm, const float* weight, const float* bias, const float* src, float* dst,
                std::int64_t rows),
               (norm, weight, bias, src, dst, rows))

template <class Fma>
REPLK_INLINE void normalise_narrow_body(const LayerNorm& norm, const float* weight, const float* bias,
                                        const float* src, const NarrowCopy& copy, std::int64_t first,
                                        std::int64_t rows) {
  const int channels = norm.channels;
  for (std::int64_t r = first; r < first + rows; r++) {
    const float* x = src + r * channels;
    const Statistics row = statistics(norm, x);
    for (int at = 0; at < channels; at += narrow_piece) {
      const int count = std::min(narrow_piece, channels - at);
      float part[narrow_piece];
      for (int c = 0; c < count; c++)
        part[c] = (x[at + c] - row.mean) * row.scale * weight[at + c] + bias[at + c];
      if (norm.activation == Activation::relu)
        for (int c = 0; c < count; c++) part[c] = core::relu(part[c]);
      if (norm.activation == Activation::gelu)
        for (int c = 0; c < count; c++) part[c] = core::gelu(part[c], Fma());
      narrow<Fma>(copy, part, r, channels, at, count);
    }
  }
}

REPLK_DISPATCH(normalise_narrow,
               (const LayerNorm& norm, const float* weight, const float* bias, const float* src,
                const NarrowCopy& copy, std::int64_t first, std::int64_t rows),
               (norm, weight, bias, src, copy, first, rows))

/// With n = (x - mean) * scale and h the gradient of n: scale * (h - mean(h) - n * mean(h * n)).
template <class Fma>
REPLK_INLINE void gradient_rows_body(const LayerNorm& norm, const float* weight, const float* bias,
                                     const float* src, float* gradient, std::int64_t rows) {
  const int channels = norm.channels;
  for (std::int64_t r = 0; r < rows; r++, src += channels, gradient += channels) {
    const Statistics row = statistics(norm, src);
    const float mean = row.mean, scale = row.scale;  // Clang 14 captures no structured binding
    if (norm.activation == Activation::gelu)
      for (int c = 0; c < channels; c++)
        gradient[c] *= core::gelu_slope((src[c] - mean) * scale * weight[c] + bias[c], Fma());
    else if (norm.activation == Activation::relu)
      for (int c = 0; c < channels; c++)
        gradient[c] = (src[c] - mean) * scale * weight[c] + bias[c] <= 0.0f ? 0.0f : gradient[c];
    const float mean_h =
        sum(
            channels, [&](int c) __attribute__((always_inline)) { return gradient[c] * weight[c]; }) /
        float(channels);
    const float mean_hn =
        sum(
            channels, [&](int c) __attribute__((
                          always_inline)) { return gradient[c] * weight[c] * ((src[c] - mean) * scale); }) /
        float(channels);
    for (int c = 0; c < channels; c++)
      gradient[c] = scale * (gradient[c] * weight[c] - mean_h - (src[c] - mean) * scale * mean_hn);
  }
}

REPLK_DISPATCH(gradient_rows,
               (const LayerNorm& norm, const float* weight, const float* bias, const float* src,
                float* gradient, std::int64_t rows),
               (norm, weight, bias, src, gradient, rows))

/// body(first row, rows) over blocks of rows.
template <class Body>
void for_row_blocks(std::int64_t rows, int threads, Body body) {
  constexpr std::int64_t block = 16;
  core::parallel_for((rows + block - 1) / block, threads,
                     [&](std::int64_t i, int) { body(i * block, std::min(block, rows - i * block)); });
}

}  // namespace

void layer_norm(const LayerNorm& norm, const float* weight, const float* bias, const float* src, float* dst,
                int threads) {
  for_row_blocks(norm.rows, threads, [&](std::int64_t first, std::int64_t rows) {
    normalise(norm, weight, bias, src + first * norm.channels, dst + first * norm.channels, rows);
  });
}

void layer_norm(const LayerNorm& norm, const float* weight, const float* bias, const float* src,
                const NarrowCopy& copy, int threads) {
  for_row_blocks(norm.rows, threads, [&](std::int64_t first, std::int64_t rows) {
    normalise_narrow(norm, weight, bias, src, copy, first, rows);
  });
}

void layer_norm_gradient(const LayerNorm& norm, const float* weight, const float* bias, const float* src,
                         float* gradient, int threads) {
  for_row_blocks(norm.rows, threads, [&](std::int64_t first, std::int64_t rows) {
    gradient_rows(norm, weight, bias, src + first * norm.channels, gradient + first * norm.channels, rows);
  });
}

}  // namespace replk::elementwise
