// The layers of elementwise.hpp backwards: from the gradient of a layer's output to that of its input, in
// place. `src` is the layer's input, as the forward pass had it. What elementwise.hpp says of layouts,
// threads and preconditions holds here too.
#pragma once
#include <cstdint>

#include "core/types.hpp"
#include "elementwise/elementwise.hpp"

namespace replk::elementwise {

void gelu_gradient(std::int64_t count, const float* src, float* gradient, int threads);
/// Of clamp_above.
void clamp_above_gradient(std::int64_t count, float limit, const float* src, float* gradient, int threads);

/// ReLU, of which one bit an element is kept: 1 where src (its input or its output) is above 0 or a NaN. Its
/// derivative at 0 is 0, as in PyTorch. signs: (count + 63) / 64 words.
void pack_signs(std::int64_t count, const float* src, std::uint64_t* signs, int threads);
void relu_gradient(std::int64_t count, const std::uint64_t* signs, float* gradient, int threads);

/// Its activation included.
void layer_norm_gradient(const LayerNorm& norm, const float* weight, const float* bias, const float* src,
                         float* gradient, int threads);

/// scratch: 2 * images * channels floats. A channel that is 0 everywhere has the norm's derivative 0.
void global_response_norm_gradient(const Map& map, const float* gamma, float epsilon, const float* src,
                                   float* gradient, float* scratch, int threads);

/// dst[images][channels]: the sum over pixels of a * b.
void channel_products(const Map& map, const float* a, const float* b, float* dst, int threads);
/// dst = src * factors[images][channels] + offsets[images][channels].
void scale_channels(const Map& map, const float* factors, const float* offsets, const float* src, float* dst,
                    int threads);

}  // namespace replk::elementwise
