#include "measure/peak.hpp"

#include <algorithm>
#include <cstdint>
#include <numeric>
#include <vector>

#include "core/clock.hpp"
#include "core/features.hpp"
#include "core/threads.hpp"
#include "measure/limits.hpp"

namespace replk::bench {
namespace {

// Assembly, as in limits.cpp: twelve chains cover the latency of dot products, four that of tiles.
#define DOT_12(OP, SRC, R)                                                                           \
  OP SRC R "0\n" OP SRC R "1\n" OP SRC R "2\n" OP SRC R "3\n" OP SRC R "4\n" OP SRC R "5\n" OP SRC R \
           "6\n" OP SRC R "7\n" OP SRC R "8\n" OP SRC R "9\n" OP SRC R "10\n" OP SRC R "11\n"
#define TOUCHED                                                                                              \
  "xmm0", "xmm1", "xmm2", "xmm3", "xmm4", "xmm5", "xmm6", "xmm7", "xmm8", "xmm9", "xmm10", "xmm11", "xmm12", \
      "xmm13", "xmm14", "xmm15"

void clear() {  // a NaN or denormal left in a register could slow the burst
  __asm__ volatile("vzeroall" ::: TOUCHED);
}

void dot_bf16(long n) {
  for (; n; n--) __asm__ volatile(DOT_12("vdpbf16ps ", "%%zmm15,%%zmm15,", "%%zmm")::: TOUCHED);
}
void dot_int8(long n) {
  for (; n; n--) __asm__ volatile(DOT_12("vpdpbusd ", "%%zmm15,%%zmm15,", "%%zmm")::: TOUCHED);
}
void dot_int8_vex(long n) {
  for (; n; n--) __asm__ volatile(DOT_12("%{vex%} vpdpbusd ", "%%ymm15,%%ymm15,", "%%ymm")::: TOUCHED);
}
#define MULTIPLY_ADD(I, J) \
  "vpmaddwd %%ymm15,%%ymm15,%%ymm" #J "\n vpaddd %%ymm" #J ",%%ymm" #I ",%%ymm" #I "\n"
void multiply_add_int16(long n) {
  for (; n; n--)
    __asm__ volatile(MULTIPLY_ADD(0, 8) MULTIPLY_ADD(1, 9) MULTIPLY_ADD(2, 10) MULTIPLY_ADD(3, 11)
                         MULTIPLY_ADD(4, 12) MULTIPLY_ADD(5, 13)::
                             : TOUCHED);
}

/// Full tiles: 16 rows of 64 bytes.
struct alignas(64) FullTiles {
  std::uint8_t palette = 1, start_row = 0, reserved[14] = {};
  std::uint16_t row_bytes[16] = {64, 64, 64, 64, 64, 64, 64, 64};
  std::uint8_t rows[16] = {16, 16, 16, 16, 16, 16, 16, 16};
};
static_assert(sizeof(FullTiles) == 64);

#define TILES(OP)                                                                           \
  OP " %%tmm6,%%tmm4,%%tmm0\n" OP " %%tmm7,%%tmm4,%%tmm1\n" OP " %%tmm6,%%tmm5,%%tmm2\n" OP \
     " %%tmm7,%%tmm5,%%tmm3\n"
#define ZERO_TILES                                                                                      \
  "tilezero %%tmm0\n tilezero %%tmm1\n tilezero %%tmm2\n tilezero %%tmm3\n tilezero %%tmm4\n tilezero " \
  "%%tmm5\n tilezero %%tmm6\n tilezero %%tmm7\n"

template <class Burst>
void with_tiles(Burst burst) {
  const FullTiles tiles;
  __asm__ volatile("ldtilecfg %0\n" ZERO_TILES ::"m"(tiles));
  burst();
  __asm__ volatile("tilerelease" :::);
}
void tiles_bf16(long n) {
  with_tiles([n]() mutable {
    for (; n; n--) __asm__ volatile(TILES("tdpbf16ps"):::);
  });
}
void tiles_int8(long n) {
  with_tiles([n]() mutable {
    for (; n; n--) __asm__ volatile(TILES("tdpbusd"):::);
  });
}

struct Burst {
  Features needs;
  void (*run)(long);
  double flops;  // of one pass
};
constexpr double zmm = 64, ymm = 32, tiles = 4 * 16 * 16 * 64;  // bytes, or bytes by columns, of one pass
constexpr Burst of_bf16[] = {{Feature::amx_tile | Feature::amx_bf16, tiles_bf16, 2 * tiles / 2},
                             {Feature::avx512_bf16, dot_bf16, 2 * 12 * zmm / 2}};
constexpr Burst of_int8[] = {{Feature::amx_tile | Feature::amx_int8, tiles_int8, 2 * tiles},
                             {Feature::avx512_vnni, dot_int8, 2 * 12 * zmm},
                             {Feature::avx_vnni, dot_int8_vex, 2 * 12 * ymm},
                             {Feature::avx2, multiply_add_int16, 2 * 6 * ymm / 2}};

double gflops(const Burst& burst) {
  constexpr long passes = 10000;
  clear();
  double best = 0;
  for (int i = 0; i < 3; ++i) {
    const double start = core::seconds();
    burst.run(passes);
    best = std::max(best, passes * burst.flops / (core::seconds() - start) / 1e9);
  }
  return best;
}

template <std::size_t n>
double fastest(const Burst (&bursts)[n]) {
  double best = 0;
  for (const Burst& burst : bursts)
    if (core::features().has(burst.needs)) best = std::max(best, gflops(burst));
  return best;
}

double peak(Precision precision) {
  switch (precision) {
    case Precision::int8:
      return core::features().has(Feature::avx2) ? fastest(of_int8) : fma_peak_gflops();
    case Precision::bf16:
      return std::max(fastest(of_bf16), fma_peak_gflops());  // Intel's dot products may be slower
    case Precision::bf16x3:
      return fastest(of_bf16) / 3;
    case Precision::fp32:
      break;
  }
  return fma_peak_gflops();
}

}  // namespace

double peak_gflops(Precision precision, int threads) {
  std::vector<double> each(threads);
  core::parallel_for(threads, threads, [&](std::int64_t i, int) { each[i] = peak(precision); });
  return std::accumulate(each.begin(), each.end(), 0.0);
}

}  // namespace replk::bench
