#include "core/cpu.hpp"

#include <sched.h>

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <cstring>
#include <optional>

#include "core/caches.hpp"
#include "core/cgroup.hpp"
#include "core/cpuid.hpp"
#include "core/features.hpp"

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

}  // namespace

const Cpu& cpu() {
  static const Cpu instance = [] {
    Cpu c;
    read_identity(c);
    describe_caches(c);
    c.cores = allowed_cpus();
    c.hardware = isa_of(hardware_features());
    c.isa = isa_of(hardware_features() & allowed_features());
    return c;
  }();
  return instance;
}

}  // namespace replk::core
