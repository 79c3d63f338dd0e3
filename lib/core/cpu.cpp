#include "core/cpu.hpp"

#include <sched.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <optional>

#include "core/caches.hpp"
#include "core/cgroup.hpp"
#include "core/cpuid.hpp"
#include "core/log.hpp"

namespace replk {

std::string_view name(Isa isa) {
  switch (isa) {
    case Isa::avx512:
      return "avx512";
    case Isa::avx2:
      return "avx2";
    default:
      return "portable";
  }
}

}  // namespace replk

namespace replk::core {
namespace {

std::uint64_t enabled_state() {  // XCR0: which registers the operating system saves
  unsigned low, high;
  __asm__ volatile("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
  return (static_cast<std::uint64_t>(high) << 32) | low;
}

bool bit(unsigned word, int n) {
  return (word >> n) & 1;
}

void read_identity(Cpu& c) {
  const Leaf zero = leaf(0), one = leaf(1);
  char vendor[13] = {};
  std::memcpy(vendor, &zero.b, 4);
  std::memcpy(vendor + 4, &zero.d, 4);
  std::memcpy(vendor + 8, &zero.c, 4);
  c.vendor = vendor;
  const int family = (one.a >> 8) & 15;
  c.family = family == 15 ? 15 + ((one.a >> 20) & 255) : family;
  c.model = ((one.a >> 4) & 15) + (family == 6 || family == 15 ? ((one.a >> 12) & 0xf0) : 0);
  c.stepping = one.a & 15;
  if (leaf(0x80000000).a >= 0x80000004) {
    char brand[49] = {};
    for (unsigned i = 0; i < 3; i++) {
      const Leaf l = leaf(0x80000002 + i);
      const unsigned words[] = {l.a, l.b, l.c, l.d};
      std::memcpy(brand + 16 * i, words, 16);
    }
    c.brand = brand;
    c.brand.erase(0, c.brand.find_first_not_of(' '));
    c.brand.erase(c.brand.find_last_not_of(' ') + 1);
  }
}

void read_isa(Cpu& c) {
  const Leaf one = leaf(1), seven = leaf(7);
  if (!bit(one.c, 27) || !bit(one.c, 28)) return;  // OSXSAVE, AVX
  const std::uint64_t state = enabled_state();
  if ((state & 6) != 6) return;
  if (bit(one.c, 12) && bit(one.c, 29) && bit(seven.b, 5)) c.hardware = Isa::avx2;  // FMA, F16C, AVX2
  const bool f = bit(seven.b, 16), dq = bit(seven.b, 17), bw = bit(seven.b, 30), vl = bit(seven.b, 31);
  if (c.hardware == Isa::avx2 && f && dq && bw && vl && (state & 0xe6) == 0xe6) {
    c.hardware = Isa::avx512;
    c.avx512_bf16 = bit(leaf(7, 1).a, 5);
  }
}

void describe_caches(Cpu& c) {
  const Caches caches = read_caches(leaf, "/sys/devices/system/cpu/cpu0/cache");
  if (caches.l1d > 0) c.l1d_bytes = caches.l1d;
  if (caches.l2 > 0) c.l2_bytes = caches.l2;
  if (caches.l3 > 0) c.l3_bytes = caches.l3;
}

int allowed_cpus() {
  int count = 1;
  cpu_set_t set;
  if (sched_getaffinity(0, sizeof set, &set) == 0) count = std::max(1, CPU_COUNT(&set));
  // A part of a CPU counts as one: a thread that is stopped now and then costs less than time left over.
  if (const std::optional<double> quota = cpu_quota(); quota && *quota < count)
    count = static_cast<int>(std::ceil(*quota));
  return count;
}

Isa lowered(Isa hardware) {
  const char* cap = std::getenv("REPLK_MAX_ISA");
  if (!cap || !*cap) return hardware;
  for (Isa isa : {Isa::portable, Isa::avx2, Isa::avx512})
    if (name(isa) == cap) return std::min(isa, hardware);
  log(LogLevel::warning, "REPLK_MAX_ISA is '{}', not one of portable, avx2, avx512: ignored", cap);
  return hardware;
}

}  // namespace

const Cpu& cpu() {
  static const Cpu instance = [] {
    Cpu c;
    read_identity(c);
    read_isa(c);
    describe_caches(c);
    c.cores = allowed_cpus();
    c.isa = lowered(c.hardware);
    return c;
  }();
  return instance;
}

}  // namespace replk::core
