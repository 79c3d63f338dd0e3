#include <algorithm>

#include "core/swish.hpp"
#include "core/threads.hpp"
#include "elementwise/elementwise.hpp"
#include "elementwise/gradient.hpp"
#include "simd/dispatch.hpp"

namespace replk::elementwise {
namespace {

constexpr std::int64_t run = 4096;  // elements of a task

template <class Fma>
REPLK_INLINE void gelu_run_body(const float* src, float* dst, std::int64_t count) {
  for (std::int64_t i = 0; i < count; i++) dst[i] = core::gelu(src[i], Fma());
}
REPLK_DISPATCH(gelu_run, (const float* src, float* dst, std::int64_t count), (src, dst, count))

template <class Fma>
REPLK_INLINE void relu_run_body(const float* src, float* dst, std::int64_t count) {
  for (std::int64_t i = 0; i < count; i++) dst[i] = core::relu(src[i]);
}
REPLK_DISPATCH(relu_run, (const float* src, float* dst, std::int64_t count), (src, dst, count))

template <class Fma>
REPLK_INLINE void silu_run_body(const float* src, float* dst, std::int64_t count) {
  for (std::int64_t i = 0; i < count; i++) dst[i] = core::silu(src[i], Fma());
}
REPLK_DISPATCH(silu_run, (const float* src, float* dst, std::int64_t count), (src, dst, count))

template <class Fma>
REPLK_INLINE void hard_swish_run_body(const float* src, float* dst, std::int64_t count) {
  for (std::int64_t i = 0; i < count; i++) dst[i] = core::hard_swish(src[i], Fma());
}
REPLK_DISPATCH(hard_swish_run, (const float* src, float* dst, std::int64_t count), (src, dst, count))

template <class Fma>
REPLK_INLINE void clamp_run_body(const float* src, float* dst, std::int64_t count, float limit) {
  for (std::int64_t i = 0; i < count; i++) dst[i] = core::min_second(limit, src[i]);
}
REPLK_DISPATCH(clamp_run, (const float* src, float* dst, std::int64_t count, float limit),
               (src, dst, count, limit))

template <class Fma>
REPLK_INLINE void gelu_gradient_run_body(const float* src, float* gradient, std::int64_t count) {
  for (std::int64_t i = 0; i < count; i++) gradient[i] *= core::gelu_slope(src[i], Fma());
}
REPLK_DISPATCH(gelu_gradient_run, (const float* src, float* gradient, std::int64_t count),
               (src, gradient, count))

template <class Fma>
REPLK_INLINE void clamp_gradient_run_body(const float* src, float* gradient, std::int64_t count,
                                          float limit) {
  for (std::int64_t i = 0; i < count; i++) gradient[i] = src[i] >= limit ? 0.0f : gradient[i];
}
REPLK_DISPATCH(clamp_gradient_run, (const float* src, float* gradient, std::int64_t count, float limit),
               (src, gradient, count, limit))

template <class Body>
void for_runs(std::int64_t count, int threads, Body body) {
  core::parallel_for((count + run - 1) / run, threads,
                     [&](std::int64_t i, int) { body(i * run, std::min(run, count - i * run)); });
}

}  // namespace

void clamp_above(std::int64_t count, float limit, const float* src, float* dst, int threads) {
  for_runs(count, threads, [&](std::int64_t at, std::int64_t n) { clamp_run(src + at, dst + at, n, limit); });
}

void activate(std::int64_t count, Activation activation, const float* src, float* dst, int threads) {
  for_runs(count, threads, [&](std::int64_t at, std::int64_t n) {
    switch (activation) {
      case Activation::gelu:
        return gelu_run(src + at, dst + at, n);
      case Activation::relu:
        return relu_run(src + at, dst + at, n);
      case Activation::silu:
        return silu_run(src + at, dst + at, n);
      case Activation::hard_swish:
        return hard_swish_run(src + at, dst + at, n);
      case Activation::none:
        if (src != dst) std::copy(src + at, src + at + n, dst + at);
    }
  });
}

void gelu_gradient(std::int64_t count, const float* src, float* gradient, int threads) {
  for_runs(count, threads,
           [&](std::int64_t at, std::int64_t n) { gelu_gradient_run(src + at, gradient + at, n); });
}

void clamp_above_gradient(std::int64_t count, float limit, const float* src, float* gradient, int threads) {
  for_runs(count, threads,
           [&](std::int64_t at, std::int64_t n) { clamp_gradient_run(src + at, gradient + at, n, limit); });
}

void pack_signs(std::int64_t count, const float* src, std::uint64_t* signs, int threads) {
  for_runs(count, threads, [&](std::int64_t at, std::int64_t n) {
    for (std::int64_t i = 0; i < n; i += 64) {
      std::uint64_t word = 0;
      for (std::int64_t j = 0; j < std::min<std::int64_t>(64, n - i); j++)
        word |= std::uint64_t{!(src[at + i + j] <= 0.0f)} << j;
      signs[(at + i) / 64] = word;
    }
  });
}

void relu_gradient(std::int64_t count, const std::uint64_t* signs, float* gradient, int threads) {
  for_runs(count, threads, [&](std::int64_t at, std::int64_t n) {
    for (std::int64_t i = at; i < at + n; i++)
      gradient[i] = signs[i / 64] >> (i % 64) & 1 ? gradient[i] : 0.0f;
  });
}

}  // namespace replk::elementwise
