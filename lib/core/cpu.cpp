#include "core/cpu.hpp"

#include <cpuid.h>
#include <sched.h>

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <sstream>

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

struct Leaf {
  unsigned a = 0, b = 0, c = 0, d = 0;
};

Leaf leaf(unsigned id, unsigned sub = 0) {
  Leaf l;
  if (!__get_cpuid_count(id, sub, &l.a, &l.b, &l.c, &l.d)) return {};
  return l;
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

std::string first_line(const std::string& path) {
  std::ifstream file(path);
  std::string line;
  std::getline(file, line);
  return line;
}

void read_caches(Cpu& c) {
  for (int i = 0; i < 8; i++) {
    const std::string base = "/sys/devices/system/cpu/cpu0/cache/index" + std::to_string(i) + "/";
    const std::string level = first_line(base + "level"), type = first_line(base + "type"),
                      size = first_line(base + "size");
    if (level.empty() || size.empty()) continue;
    std::size_t bytes = std::strtoull(size.c_str(), nullptr, 10);
    if (size.back() == 'K') bytes <<= 10;
    if (size.back() == 'M') bytes <<= 20;
    if (bytes == 0) continue;
    if (level == "1" && type == "Data") c.l1d_bytes = bytes;
    if (level == "2") c.l2_bytes = bytes;
    if (level == "3") c.l3_bytes = bytes;
  }
}

int allowed_cpus() {
  int count = 1;
  cpu_set_t set;
  if (sched_getaffinity(0, sizeof set, &set) == 0) count = std::max(1, CPU_COUNT(&set));
  // cgroup v2: "max 100000" or "200000 100000".
  std::istringstream quota(first_line("/sys/fs/cgroup/cpu.max"));
  double most, period;
  if (quota >> most >> period && period > 0)
    count = std::clamp(static_cast<int>(std::ceil(most / period)), 1, count);
  return count;
}

}  // namespace

const Cpu& cpu() {
  static const Cpu instance = [] {
    Cpu c;
    read_identity(c);
    read_caches(c);
    c.cores = allowed_cpus();
    c.hardware = isa_of(hardware_features());
    c.isa = isa_of(hardware_features() & allowed_features());
    return c;
  }();
  return instance;
}

}  // namespace replk::core
