#include "bench/measure/limits.hpp"

#include <algorithm>
#include <chrono>
#include <functional>
#include <vector>

#include "core/cpu.hpp"
#include "core/memory.hpp"
#include "core/threads.hpp"

namespace replk::bench {
namespace {

double now() {
  return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

// Twelve independent chains hide the latency of either operation on every core with two pipes of up to six
// cycles. Written as instructions because a compiler may keep an array of accumulators in memory, which reads
// a third of the peak.
#define TWELVE(instruction, source, vector)                                                         \
  instruction " " source ", %%" vector "0\n" instruction " " source ", %%" vector "1\n" instruction \
              " " source ", %%" vector "2\n" instruction " " source ", %%" vector "3\n" instruction \
              " " source ", %%" vector "4\n" instruction " " source ", %%" vector "5\n" instruction \
              " " source ", %%" vector "6\n" instruction " " source ", %%" vector "7\n" instruction \
              " " source ", %%" vector "8\n" instruction " " source ", %%" vector "9\n" instruction \
              " " source ", %%" vector "10\n" instruction " " source ", %%" vector "11\n"
#define ZERO_ALL                                                                                          \
  "vxorps %%xmm0, %%xmm0, %%xmm0\n vxorps %%xmm1, %%xmm1, %%xmm1\n vxorps %%xmm2, %%xmm2, %%xmm2\n"       \
  "vxorps %%xmm3, %%xmm3, %%xmm3\n vxorps %%xmm4, %%xmm4, %%xmm4\n vxorps %%xmm5, %%xmm5, %%xmm5\n"       \
  "vxorps %%xmm6, %%xmm6, %%xmm6\n vxorps %%xmm7, %%xmm7, %%xmm7\n vxorps %%xmm8, %%xmm8, %%xmm8\n"       \
  "vxorps %%xmm9, %%xmm9, %%xmm9\n vxorps %%xmm10, %%xmm10, %%xmm10\n vxorps %%xmm11, %%xmm11, %%xmm11\n" \
  "vxorps %%xmm15, %%xmm15, %%xmm15\n"
#define CLOBBERS                                                                                             \
  "xmm0", "xmm1", "xmm2", "xmm3", "xmm4", "xmm5", "xmm6", "xmm7", "xmm8", "xmm9", "xmm10", "xmm11", "xmm15", \
      "cc"
#define BURST(name, body)                                                                           \
  void name(long count) {                                                                           \
    asm volatile(ZERO_ALL "1:\n" body "dec %0\n jnz 1b\n vzeroupper\n" : "+r"(count) : : CLOBBERS); \
  }

constexpr int chains = 12;
BURST(fma_avx2, TWELVE("vfmadd231ps", "%%ymm15, %%ymm15", "ymm"))
BURST(fma_avx512, TWELVE("vfmadd231ps", "%%zmm15, %%zmm15", "zmm"))
void add_avx2(long count) {
  asm volatile(
      ZERO_ALL
      "1:\n vaddps %%ymm15, %%ymm0, %%ymm0\n vaddps %%ymm15, %%ymm1, %%ymm1\n vaddps %%ymm15, %%ymm2, "
      "%%ymm2\n"
      "vaddps %%ymm15, %%ymm3, %%ymm3\n vaddps %%ymm15, %%ymm4, %%ymm4\n vaddps %%ymm15, %%ymm5, %%ymm5\n"
      "vaddps %%ymm15, %%ymm6, %%ymm6\n vaddps %%ymm15, %%ymm7, %%ymm7\n vaddps %%ymm15, %%ymm8, %%ymm8\n"
      "vaddps %%ymm15, %%ymm9, %%ymm9\n vaddps %%ymm15, %%ymm10, %%ymm10\n"
      "vaddps %%ymm15, %%ymm11, %%ymm11\n dec %0\n jnz 1b\n vzeroupper\n"
      : "+r"(count)
      :
      : CLOBBERS);
}
void add_avx512(long count) {
  asm volatile(
      ZERO_ALL
      "1:\n vaddps %%zmm15, %%zmm0, %%zmm0\n vaddps %%zmm15, %%zmm1, %%zmm1\n vaddps %%zmm15, %%zmm2, "
      "%%zmm2\n"
      "vaddps %%zmm15, %%zmm3, %%zmm3\n vaddps %%zmm15, %%zmm4, %%zmm4\n vaddps %%zmm15, %%zmm5, %%zmm5\n"
      "vaddps %%zmm15, %%zmm6, %%zmm6\n vaddps %%zmm15, %%zmm7, %%zmm7\n vaddps %%zmm15, %%zmm8, %%zmm8\n"
      "vaddps %%zmm15, %%zmm9, %%zmm9\n vaddps %%zmm15, %%zmm10, %%zmm10\n"
      "vaddps %%zmm15, %%zmm11, %%zmm11\n dec %0\n jnz 1b\n vzeroupper\n"
      : "+r"(count)
      :
      : CLOBBERS);
}
/// Reads `lines` cache lines; two loads of 32 bytes a line on AVX2 and AVX-512 alike.
void read_lines(const char* p, long lines) {
  asm volatile(
      "1:\n vmovaps (%0), %%ymm0\n vmovaps 32(%0), %%ymm1\n add $64, %0\n dec %1\n jnz 1b\n vzeroupper\n"
      : "+r"(p), "+r"(lines)
      :
      : "xmm0", "xmm1", "cc", "memory");
}
#undef BURST
#undef CLOBBERS
#undef ZERO_ALL
#undef TWELVE

/// Plain code's own limit: what the compiler's baseline (SSE2) can do, one multiply and one addition a step.
void sse_steps(long count) {
  asm volatile(
      "1:\n mulps %%xmm15, %%xmm0\n addps %%xmm15, %%xmm1\n mulps %%xmm15, %%xmm2\n addps %%xmm15, %%xmm3\n"
      "mulps %%xmm15, %%xmm4\n addps %%xmm15, %%xmm5\n mulps %%xmm15, %%xmm6\n addps %%xmm15, %%xmm7\n"
      "mulps %%xmm15, %%xmm8\n addps %%xmm15, %%xmm9\n mulps %%xmm15, %%xmm10\n addps %%xmm15, %%xmm11\n"
      "dec %0\n jnz 1b\n"
      : "+r"(count)
      :
      : "xmm0", "xmm1", "xmm2", "xmm3", "xmm4", "xmm5", "xmm6", "xmm7", "xmm8", "xmm9", "xmm10", "xmm11",
        "xmm15", "cc");
}

/// Work a second over all threads: bursts of about a millisecond, run at once on all, the best counts.
double best_rate(int threads, double seconds, double work_per_burst, const std::function<void(int)>& burst) {
  threads = core::effective_threads(threads);
  double best = 0;
  const double end = now() + seconds;
  do {
    const double start = now();
    core::parallel_for(threads, threads, [&](std::int64_t, int thread) { burst(thread); });
    best = std::max(best, threads * work_per_burst / (now() - start));
  } while (now() < end);
  return best;
}

}  // namespace

double peak_fma_per_second(int threads, double seconds) {
  constexpr long count = 200000;
  switch (core::cpu().isa) {
    case Isa::avx512:
      return best_rate(threads, seconds, double(count) * chains * 16, [](int) { fma_avx512(count); });
    case Isa::avx2:
      return best_rate(threads, seconds, double(count) * chains * 8, [](int) { fma_avx2(count); });
    default:
      return best_rate(threads, seconds, double(count) * chains / 2 * 4, [](int) { sse_steps(count); });
  }
}

double peak_add_per_second(int threads, double seconds) {
  constexpr long count = 200000;
  switch (core::cpu().isa) {
    case Isa::avx512:
      return best_rate(threads, seconds, double(count) * chains * 16, [](int) { add_avx512(count); });
    case Isa::avx2:
      return best_rate(threads, seconds, double(count) * chains * 8, [](int) { add_avx2(count); });
    default:
      return peak_fma_per_second(threads, seconds);  // there, a multiply-add holds one addition
  }
}

double read_bytes_per_second(int threads, std::size_t bytes, double seconds) {
  threads = core::effective_threads(threads);
  if (core::cpu().isa == Isa::portable) return 0;
  const std::size_t each = std::max<std::size_t>(64, bytes / 64 * 64);
  std::vector<core::Buffer<char>> buffers;
  for (int t = 0; t < threads; t++) buffers.emplace_back(each, true);
  const long passes = std::max<long>(1, long((std::size_t{16} << 20) / each));
  return best_rate(threads, seconds, double(passes) * each, [&](int thread) {
    for (long i = 0; i < passes; i++) read_lines(buffers[thread].data(), long(each / 64));
  });
}

Limits measure_limits(int threads) {
  const core::Cpu& cpu = core::cpu();
  Limits limits;
  limits.fma_per_second = peak_fma_per_second(threads);
  limits.add_per_second = peak_add_per_second(threads);
  limits.l1_bytes_per_second = read_bytes_per_second(threads, cpu.l1d_bytes / 2);
  limits.l2_bytes_per_second = read_bytes_per_second(threads, cpu.l2_bytes * 3 / 4);
  limits.memory_bytes_per_second =
      read_bytes_per_second(threads, std::max<std::size_t>(64 << 20, 4 * cpu.l3_bytes), 0.1);
  return limits;
}

}  // namespace replk::bench
