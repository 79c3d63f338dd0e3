#include "measure/limits.hpp"

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstring>
#include <utility>

#include "core/clock.hpp"
#include "core/cpu.hpp"
#include "core/memory.hpp"

namespace replk::bench {
namespace {

// Bursts are assembly because a compiler may keep accumulators in memory or drop them. Twelve chains cover a
// latency of up to 6 cycles on two ports.
#define REPEAT_12(OP, SRC, R)                                                                        \
  OP SRC R "0\n" OP SRC R "1\n" OP SRC R "2\n" OP SRC R "3\n" OP SRC R "4\n" OP SRC R "5\n" OP SRC R \
           "6\n" OP SRC R "7\n" OP SRC R "8\n" OP SRC R "9\n" OP SRC R "10\n" OP SRC R "11\n"
// The additions write the register they read; their three-operand form needs it twice.
#define ADD_12(R)                                                                                          \
  "vaddps " R "15," R "0," R "0\n vaddps " R "15," R "1," R "1\n vaddps " R "15," R "2," R "2\n vaddps " R \
  "15," R "3," R "3\n vaddps " R "15," R "4," R "4\n vaddps " R "15," R "5," R "5\n vaddps " R "15," R     \
  "6," R "6\n vaddps " R "15," R "7," R "7\n vaddps " R "15," R "8," R "8\n vaddps " R "15," R "9," R      \
  "9\n vaddps " R "15," R "10," R "10\n vaddps " R "15," R "11," R "11\n"
#define LOADS_8(STEP, R)                                                                                   \
  "vmovups (%0)," R "0\n vmovups " #STEP "(%0)," R "1\n vmovups 2*" #STEP "(%0)," R "2\n vmovups 3*" #STEP \
  "(%0)," R "3\n vmovups 4*" #STEP "(%0)," R "4\n vmovups 5*" #STEP "(%0)," R "5\n vmovups 6*" #STEP       \
  "(%0)," R "6\n vmovups 7*" #STEP "(%0)," R "7\n"
#define TOUCHED \
  "xmm0", "xmm1", "xmm2", "xmm3", "xmm4", "xmm5", "xmm6", "xmm7", "xmm8", "xmm9", "xmm10", "xmm11", "xmm15"

constexpr int chains = 12;

void fma_avx2(long n) {
  for (; n; n--) __asm__ volatile(REPEAT_12("vfmadd231ps ", "%%ymm15,%%ymm15,", "%%ymm")::: TOUCHED);
}
void fma_avx512(long n) {
  for (; n; n--) __asm__ volatile(REPEAT_12("vfmadd231ps ", "%%zmm15,%%zmm15,", "%%zmm")::: TOUCHED);
}
void add_avx2(long n) {
  for (; n; n--) __asm__ volatile(ADD_12("%%ymm")::: TOUCHED);
}
void add_avx512(long n) {
  for (; n; n--) __asm__ volatile(ADD_12("%%zmm")::: TOUCHED);
}
#define PAIR(R, I, J) "vfmadd231ps " R "15," R "15," R #I "\n vaddps " R "15," R #J "," R #J "\n"
#define MIXED_14(R) \
  PAIR(R, 0, 7) PAIR(R, 1, 8) PAIR(R, 2, 9) PAIR(R, 3, 10) PAIR(R, 4, 11) PAIR(R, 5, 12) PAIR(R, 6, 13)
void mixed_avx2(long n) {
  for (; n; n--) __asm__ volatile(MIXED_14("%%ymm")::: TOUCHED, "xmm12", "xmm13");
}
void mixed_avx512(long n) {
  for (; n; n--) __asm__ volatile(MIXED_14("%%zmm")::: TOUCHED, "xmm12", "xmm13");
}
void read_avx2(const char* data, std::size_t bytes) {
  for (const char* end = data + bytes; data < end; data += 256)
    __asm__ volatile(LOADS_8(32, "%%ymm")::"r"(data) : TOUCHED);
}
void read_avx512(const char* data, std::size_t bytes) {
  for (const char* end = data + bytes; data < end; data += 512)
    __asm__ volatile(LOADS_8(64, "%%zmm")::"r"(data) : TOUCHED);
}

#define ZERO(R, N) "vxorps " R #N "," R #N "," R #N "\n"
void clear() {  // a denormal or NaN left in a register could slow the burst
  __asm__ volatile(ZERO("%%xmm", 0) ZERO("%%xmm", 1) ZERO("%%xmm", 2) ZERO("%%xmm", 3) ZERO("%%xmm", 4)
                       ZERO("%%xmm", 5) ZERO("%%xmm", 6) ZERO("%%xmm", 7) ZERO("%%xmm", 8) ZERO("%%xmm", 9)
                           ZERO("%%xmm", 10) ZERO("%%xmm", 11) ZERO("%%xmm", 12) ZERO("%%xmm", 13)
                               ZERO("%%xmm", 15)::
                                   : TOUCHED, "xmm12", "xmm13");
}

// Without vectors: what the portable code can use, scalar SSE at two operations a cycle.
void fma_portable(long n) {
  for (; n; n--)
    __asm__ volatile(
        "mulss %%xmm15,%%xmm0\n addss %%xmm15,%%xmm1\n mulss %%xmm15,%%xmm2\n addss %%xmm15,%%xmm3\n"
        "mulss %%xmm15,%%xmm4\n addss %%xmm15,%%xmm5\n mulss %%xmm15,%%xmm6\n addss %%xmm15,%%xmm7\n"
        "mulss %%xmm15,%%xmm8\n addss %%xmm15,%%xmm9\n mulss %%xmm15,%%xmm10\n addss %%xmm15,%%xmm11\n" ::
            : TOUCHED);
}
void read_portable(const char* data, std::size_t bytes) {
  for (const char* end = data + bytes; data < end; data += 128)
    __asm__ volatile(
        "movups (%0),%%xmm0\n movups 16(%0),%%xmm1\n movups 32(%0),%%xmm2\n movups 48(%0),%%xmm3\n"
        "movups 64(%0),%%xmm4\n movups 80(%0),%%xmm5\n movups 96(%0),%%xmm6\n movups 112(%0),%%xmm7\n" ::"r"(
            data)
        : TOUCHED);
}

struct Bursts {
  void (*fma)(long);
  void (*add)(long);
  void (*mixed)(long);
  void (*read)(const char*, std::size_t);
  double fma_flops, add_ops, mixed_ops;  // of one pass
};

Bursts bursts() {
  const double lanes = vector_floats(core::cpu().isa);
  switch (core::cpu().isa) {
    case Isa::avx512:
      return {fma_avx512,         add_avx512,     mixed_avx512, read_avx512,
              2 * chains * lanes, chains * lanes, 14 * lanes};
    case Isa::avx2:
      return {fma_avx2, add_avx2, mixed_avx2, read_avx2, 2 * chains * lanes, chains * lanes, 14 * lanes};
    default:
      return {fma_portable, fma_portable, fma_portable, read_portable, chains, chains, chains};
  }
}

/// Best of `times` of work(), in seconds.
template <class Work>
double fastest(int times, Work work) {
  double best = 1e30;
  for (int i = 0; i < times; i++) {
    const double start = core::seconds();
    work();
    best = std::min(best, core::seconds() - start);
  }
  return best;
}

void zero_registers() {
  if (core::cpu().isa != Isa::portable) clear();
}

}  // namespace

double fma_peak_gflops() {
  const Bursts b = bursts();
  constexpr long passes = 20000;
  zero_registers();
  return passes * b.fma_flops / fastest(3, [&] { b.fma(passes); }) / 1e9;
}

Limits measure_limits() {
  const Bursts b = bursts();
  const core::Cpu& cpu = core::cpu();
  Limits limits;
  constexpr long passes = 100000;
  zero_registers();
  limits.fma_gflops = passes * b.fma_flops / fastest(10, [&] { b.fma(passes); }) / 1e9;
  limits.add_gops = passes * b.add_ops / fastest(10, [&] { b.add(passes); }) / 1e9;
  limits.mixed_gops = passes * b.mixed_ops / fastest(10, [&] { b.mixed(passes); }) / 1e9;
  const std::size_t large = std::max<std::size_t>(256u << 20, 4 * cpu.l3_bytes);
  core::Buffer<char> memory(large);
  std::memset(memory.data(), 1, large);  // pages never written would all be the one page of zeros
  const auto stream = [&](std::size_t bytes) {
    bytes = bytes / 512 * 512;
    const int repeats = static_cast<int>(std::max<std::size_t>((16u << 20) / bytes, 1));
    b.read(memory.data(), bytes);
    const double seconds = fastest(3, [&] {
      for (int i = 0; i < repeats; i++) b.read(memory.data(), bytes);
    });
    return static_cast<double>(bytes) * repeats / seconds / 1e9;
  };
  limits.load_gbs = stream(4096);  // few enough passes for the branch predictor to learn
  limits.l2_gbs = stream(cpu.l2_bytes / 2);
  limits.memory_gbs = stream(large);
  return limits;
}

}  // namespace replk::bench
