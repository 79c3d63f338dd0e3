#include <algorithm>
#include <cmath>

#include "core/threads.hpp"
#include "elementwise/dispatch.hpp"
#include "elementwise/elementwise.hpp"

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

template <class Fma>
REPLK_INLINE void normalise_body(const LayerNorm& norm, const float* weight, const float* bias,
                                 const float* src, float* dst, std::int64_t rows) {
  const int channels = norm.channels;
  for (std::int64_t r = 0; r < rows; r++, src += channels, dst += channels) {
    const float mean = sum(
                           channels, [&](int c) __attribute__((always_inline)) { return src[c]; }) /
                       float(channels);
    const float squares = sum(
        channels, [&](int c) __attribute__((always_inline)) {
          const float d = src[c] - mean;
          return d * d;
        });
    const float scale = 1.0f / std::sqrt(squares / float(channels) + norm.epsilon);
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
    }
  }
}

REPLK_DISPATCH(normalise,
               (const LayerNorm& norm, const float* weight, const float* bias, const float* src, float* dst,
                std::int64_t rows),
               (norm, weight, bias, src, dst, rows))

}  // namespace

void layer_norm(const LayerNorm& norm, const float* weight, const float* bias, const float* src, float* dst,
                int threads) {
  constexpr std::int64_t block = 16;
  core::parallel_for((norm.rows + block - 1) / block, threads, [&](std::int64_t i, int) {
    const std::int64_t first = i * block, rows = std::min(block, norm.rows - first);
    normalise(norm, weight, bias, src + first * norm.channels, dst + first * norm.channels, rows);
  });
}

}  // namespace replk::elementwise
