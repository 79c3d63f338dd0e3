#include <algorithm>

#include "core/threads.hpp"
#include "elementwise/dispatch.hpp"
#include "elementwise/elementwise.hpp"

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
REPLK_INLINE void clamp_run_body(const float* src, float* dst, std::int64_t count, float limit) {
  for (std::int64_t i = 0; i < count; i++) dst[i] = core::min_second(limit, src[i]);
}
REPLK_DISPATCH(clamp_run, (const float* src, float* dst, std::int64_t count, float limit),
               (src, dst, count, limit))

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
      case Activation::none:
        if (src != dst) std::copy(src + at, src + at + n, dst + at);
    }
  });
}

}  // namespace replk::elementwise
