// Layers without weights to multiply by: norms over channels, means over pixels, gates. Channels-last fp32,
// [images][pixels][channels], contiguous, any alignment. dst may equal src everywhere. The bits do not depend
// on the number of threads (0: all); nothing is allocated. Preconditions, checked where a plan is made: sizes
// of at least 1.
#pragma once
#include <cstdint>
#include <optional>

#include "core/tile_order.hpp"
#include "core/types.hpp"
#include "core/values.hpp"

namespace replk::elementwise {

/// A result as what the next layer multiplies, instead of in fp32: bf16, rounded to nearest even, the sum of
/// two of them, or u8, by core/quantise.hpp.
struct NarrowCopy {
  Values dst;                                       // [rows][channels], not fp32
  const float *scale = nullptr, *offset = nullptr;  // of u8: [channels]
  std::optional<core::TileOrder> order = {};        // of dst, where it is in tiles; channels are whole steps
};

/// Each row of channels to mean 0 and (biased) variance 1, times weight, plus bias, then the activation.
struct LayerNorm {
  std::int64_t rows = 1;
  int channels = 1;
  float epsilon = 1e-6f;  // inside the root
  Activation activation = Activation::none;
};
void layer_norm(const LayerNorm& norm, const float* weight, const float* bias, const float* src, float* dst,
                int threads);
/// The same values, narrow.
void layer_norm(const LayerNorm& norm, const float* weight, const float* bias, const float* src,
                const NarrowCopy& copy, int threads);

struct Map {
  std::int64_t images = 1, pixels = 1;
  int channels = 1;
};

/// dst[images][channels]: the mean over pixels, accumulated in double.
void global_mean(const Map& map, const float* src, float* dst, int threads);

/// Global response normalisation (ConvNeXt V2, arXiv 2301.00808, section 3.2), as UniRepLKNet has it:
/// x * (gamma * N + 1) + beta, N = |x|_2 over pixels, over (the mean of these norms over channels + epsilon).
/// beta may be null for 0. scratch: images * channels floats.
void global_response_norm(const Map& map, const float* gamma, const float* beta, float epsilon,
                          const float* src, float* dst, float* scratch, int threads);
/// The same values without a beta, narrow.
void global_response_norm(const Map& map, const float* gamma, float epsilon, const float* src,
                          const NarrowCopy& copy, float* scratch, int threads);

/// dst = src * sigmoid(logits[images][channels]): how squeeze-excite ends.
void gate(const Map& map, const float* logits, const float* src, float* dst, int threads);

/// dst = min(src, limit): behind a ReLU, ReLU6. A NaN stays.
void clamp_above(std::int64_t count, float limit, const float* src, float* dst, int threads);

/// An activation (GELU's erf is core/gelu.hpp's polynomial) of every element.
void activate(std::int64_t count, Activation activation, const float* src, float* dst, int threads);

}  // namespace replk::elementwise
