// What looks at a whole map: means and norms over pixels, gates; forwards and backwards.
#include <algorithm>
#include <cmath>

#include "core/gelu.hpp"
#include "core/threads.hpp"
#include "elementwise/elementwise.hpp"
#include "elementwise/gradient.hpp"
#include "elementwise/narrow.hpp"
#include "simd/dispatch.hpp"

namespace replk::elementwise {
namespace {

// Sums over pixels run over blocks of channels, a task each: a strided walk of whole cache lines.
constexpr int channel_block = 64;
// Single precision over so many pixels, then double: exact enough for maps of any size.
constexpr std::int64_t pixel_run = 64;

/// sums[c] = sum over pixels of src[p][c], times other[p][c] unless null, for `count` channels out of
/// `stride`.
template <class Fma>
REPLK_INLINE void sum_pixels_body(const float* src, const float* other, std::int64_t pixels, int stride,
                                  int count, double* sums) {
  for (int c = 0; c < count; c++) sums[c] = 0;
  float part[channel_block];
  for (std::int64_t first = 0; first < pixels; first += pixel_run) {
    for (int c = 0; c < count; c++) part[c] = 0;
    const std::int64_t last = std::min(pixels, first + pixel_run);
    for (std::int64_t p = first; p < last; p++) {
      const float* x = src + p * stride;
      if (other == nullptr) {
        for (int c = 0; c < count; c++) part[c] += x[c];
      } else {
        const float* y = other + p * stride;
        for (int c = 0; c < count; c++) part[c] += x[c] * y[c];
      }
    }
    for (int c = 0; c < count; c++) sums[c] += part[c];
  }
}
REPLK_DISPATCH(sum_pixels,
               (const float* src, const float* other, std::int64_t pixels, int stride, int count,
                double* sums),
               (src, other, pixels, stride, count, sums))

template <class Finish>
void reduce(const Map& map, const float* src, const float* other, float* dst, int threads, Finish finish) {
  const int blocks = (map.channels + channel_block - 1) / channel_block;
  core::parallel_for(map.images * blocks, threads, [&](std::int64_t task, int) {
    const std::int64_t image = task / blocks;
    const int first = int(task % blocks) * channel_block,
              count = std::min(channel_block, map.channels - first);
    const std::int64_t at = image * map.pixels * map.channels + first;
    double sums[channel_block];
    sum_pixels(src + at, other ? other + at : nullptr, map.pixels, map.channels, count, sums);
    for (int c = 0; c < count; c++) dst[image * map.channels + first + c] = finish(sums[c]);
  });
}

template <class Fma>
REPLK_INLINE void multiply_body(const float* factors, const float* offsets, const float* src, float* dst,
                                std::int64_t pixels, int channels) {
  for (std::int64_t p = 0; p < pixels; p++, src += channels, dst += channels) {
    if (offsets)
      for (int c = 0; c < channels; c++) dst[c] = src[c] * factors[c] + offsets[c];
    else
      for (int c = 0; c < channels; c++) dst[c] = src[c] * factors[c];
  }
}
REPLK_DISPATCH(multiply,
               (const float* factors, const float* offsets, const float* src, float* dst, std::int64_t pixels,
                int channels),
               (factors, offsets, src, dst, pixels, channels))

/// Rows from `first` on.
template <class Fma>
REPLK_INLINE void multiply_narrow_body(const float* factors, const float* src, const NarrowCopy& copy,
                                       std::int64_t first, std::int64_t pixels, int channels) {
  for (std::int64_t p = first; p < first + pixels; p++)
    for (int at = 0; at < channels; at += narrow_piece) {
      const int count = std::min(narrow_piece, channels - at);
      const float* x = src + p * channels + at;
      float part[narrow_piece];
      for (int c = 0; c < count; c++) part[c] = x[c] * factors[at + c];
      narrow<Fma>(copy, part, p, channels, at, count);
    }
}
REPLK_DISPATCH(multiply_narrow,
               (const float* factors, const float* src, const NarrowCopy& copy, std::int64_t first,
                std::int64_t pixels, int channels),
               (factors, src, copy, first, pixels, channels))

template <class Fma>
REPLK_INLINE void add_body(const float* scale, const float* a, const float* b, float* dst,
                           std::int64_t pixels, int channels) {
  for (std::int64_t p = 0; p < pixels; p++, a += channels, b += channels, dst += channels) {
    if (scale)
      for (int c = 0; c < channels; c++) dst[c] = a[c] + scale[c] * b[c];
    else
      for (int c = 0; c < channels; c++) dst[c] = a[c] + b[c];
  }
}
REPLK_DISPATCH(add,
               (const float* scale, const float* a, const float* b, float* dst, std::int64_t pixels,
                int channels),
               (scale, a, b, dst, pixels, channels))

template <class Fma>
REPLK_INLINE void mix_body(const float* factors, const float* weights, const float* src, float* dst,
                           std::int64_t pixels, int channels) {
  for (std::int64_t p = 0; p < pixels; p++, src += channels, dst += channels)
    for (int c = 0; c < channels; c++) dst[c] = dst[c] * factors[c] + src[c] * weights[c];
}
REPLK_DISPATCH(mix,
               (const float* factors, const float* weights, const float* src, float* dst, std::int64_t pixels,
                int channels),
               (factors, weights, src, dst, pixels, channels))

/// body(image, first element, pixels) over runs of pixels of every image.
template <class Body>
void for_pixel_runs(const Map& map, int threads, Body body) {
  const std::int64_t runs = (map.pixels + pixel_run - 1) / pixel_run;
  core::parallel_for(map.images * runs, threads, [&](std::int64_t task, int) {
    const std::int64_t image = task / runs, first = task % runs * pixel_run;
    body(image, (image * map.pixels + first) * map.channels, std::min(pixel_run, map.pixels - first));
  });
}

/// factors[images][channels] of a global response norm.
void response_factors(const Map& map, const float* gamma, float epsilon, const float* src, float* factors,
                      int threads) {
  reduce(map, src, src, factors, threads, [](double sum) { return float(std::sqrt(sum)); });
  for (std::int64_t n = 0; n < map.images; n++) {
    float* norms = factors + n * map.channels;
    double mean = 0;
    for (int c = 0; c < map.channels; c++) mean += norms[c];
    mean = mean / map.channels + epsilon;
    for (int c = 0; c < map.channels; c++) norms[c] = gamma[c] * float(norms[c] / mean) + 1.0f;
  }
}

}  // namespace

void global_mean(const Map& map, const float* src, float* dst, int threads) {
  reduce(map, src, nullptr, dst, threads, [&](double sum) { return float(sum / double(map.pixels)); });
}

void global_response_norm(const Map& map, const float* gamma, const float* beta, float epsilon,
                          const float* src, float* dst, float* scratch, int threads) {
  response_factors(map, gamma, epsilon, src, scratch, threads);
  for_pixel_runs(map, threads, [&](std::int64_t image, std::int64_t at, std::int64_t pixels) {
    multiply(scratch + image * map.channels, beta, src + at, dst + at, pixels, map.channels);
  });
}

void global_response_norm(const Map& map, const float* gamma, float epsilon, const float* src,
                          const NarrowCopy& copy, float* scratch, int threads) {
  response_factors(map, gamma, epsilon, src, scratch, threads);
  for_pixel_runs(map, threads, [&](std::int64_t image, std::int64_t at, std::int64_t pixels) {
    multiply_narrow(scratch + image * map.channels, src, copy, at / map.channels, pixels, map.channels);
  });
}

void gate(const Map& map, const float* logits, const float* src, float* dst, int threads) {
  for_pixel_runs(map, threads, [&](std::int64_t image, std::int64_t at, std::int64_t pixels) {
    // A block of channels at a time, so that the gates live on the stack; a row of them for each run of
    // pixels is cheap.
    const float* logit = logits + image * map.channels;
    for (int first = 0; first < map.channels; first += channel_block) {
      const int count = std::min(channel_block, map.channels - first);
      float gates[channel_block];
      for (int c = 0; c < count; c++) gates[c] = 1.0f / (1.0f + std::exp(-logit[first + c]));
      for (std::int64_t p = 0; p < pixels; p++) {
        const std::int64_t pixel = at + p * map.channels + first;
        multiply(gates, nullptr, src + pixel, dst + pixel, 1, count);
      }
    }
  });
}

void add_scaled(const Map& map, const float* scale, const float* a, const float* b, float* dst, int threads) {
  for_pixel_runs(map, threads, [&](std::int64_t, std::int64_t at, std::int64_t pixels) {
    add(scale, a + at, b + at, dst + at, pixels, map.channels);
  });
}

// y = x * (gamma * n / m + 1), n = |x|_2 over pixels, m the mean of n over channels + epsilon. With s the sum
// over pixels of g * x: dL/dn = gamma * s / m - (sum over channels of gamma * s * n) / (m * m * channels),
// and dn/dx = x / n.
void global_response_norm_gradient(const Map& map, const float* gamma, float epsilon, const float* src,
                                   float* gradient, float* scratch, int threads) {
  float *norms = scratch, *products = scratch + map.images * map.channels;
  reduce(map, src, src, norms, threads, [](double sum) { return float(std::sqrt(sum)); });
  channel_products(map, gradient, src, products, threads);
  for (std::int64_t n = 0; n < map.images; n++, norms += map.channels, products += map.channels) {
    double mean = 0, weighted = 0;
    for (int c = 0; c < map.channels; c++) {
      mean += norms[c];
      weighted += double(gamma[c]) * products[c] * norms[c];
    }
    mean = mean / map.channels + epsilon;
    weighted /= mean * mean * map.channels;
    for (int c = 0; c < map.channels; c++) {
      const double norm = norms[c];
      products[c] = norm > 0 ? float((gamma[c] * products[c] / mean - weighted) / norm) : 0.0f;
      norms[c] = float(gamma[c] * norm / mean) + 1.0f;
    }
  }
  for_pixel_runs(map, threads, [&](std::int64_t image, std::int64_t at, std::int64_t pixels) {
    const float* factors = scratch + image * map.channels;
    mix(factors, factors + map.images * map.channels, src + at, gradient + at, pixels, map.channels);
  });
}

void channel_products(const Map& map, const float* a, const float* b, float* dst, int threads) {
  reduce(map, a, b, dst, threads, [](double sum) { return float(sum); });
}

void scale_channels(const Map& map, const float* factors, const float* offsets, const float* src, float* dst,
                    int threads) {
  for_pixel_runs(map, threads, [&](std::int64_t image, std::int64_t at, std::int64_t pixels) {
    multiply(factors + image * map.channels, offsets + image * map.channels, src + at, dst + at, pixels,
             map.channels);
  });
}

}  // namespace replk::elementwise
