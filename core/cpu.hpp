// What this machine is: read once from CPUID, XGETBV and Linux's tables.
#pragma once
#include <cstddef>
#include <string>
#include <string_view>

namespace replk {

/// Ordered: a higher one can run everything a lower one can. avx2 means AVX2 + FMA + F16C; avx512 means
/// F+BW+DQ+VL.
enum class Isa { portable, avx2, avx512 };

std::string_view name(Isa isa);
/// Floats in a vector: 8 for avx2, 16 for avx512; portable code is written for 8 at a time.
constexpr int vector_floats(Isa isa) {
  return isa == Isa::avx512 ? 16 : 8;
}
constexpr int vector_registers(Isa isa) {
  return isa == Isa::avx512 ? 32 : 16;
}

}  // namespace replk

namespace replk::core {

struct Cpu {
  std::string vendor, brand;
  int family = 0, model = 0, stepping = 0;
  Isa hardware = Isa::portable;  // the best this CPU and operating system can run
  Isa isa = Isa::portable;       // the one in use: hardware, lowered by REPLK_MAX_ISA
  std::size_t l1d_bytes = 32 << 10, l2_bytes = 256 << 10, l3_bytes = 0;
  int cores =
      1;  // logical CPUs this process may run on (affinity, and quotas of its control groups rounded up)
};

/// The machine; the same object for the life of the process. What it can do beyond `isa` is in features.hpp.
const Cpu& cpu();

}  // namespace replk::core
