#include "core/caches.hpp"

#include <cstdint>
#include <cstdlib>
#include <fstream>

namespace replk::core {
namespace {

constexpr unsigned most_caches = 16;                        // of one core; there are four or five
constexpr std::uint64_t largest = std::uint64_t{16} << 30;  // beyond it, a hypervisor's answer is nonsense

std::size_t* of_level(Caches& caches, unsigned level) {
  return level == 1 ? &caches.l1d : level == 2 ? &caches.l2 : level == 3 ? &caches.l3 : nullptr;
}

unsigned field(unsigned word, int low, int bits) {
  return (word >> low) & ((1u << bits) - 1);
}

/// Leaf 4 and leaf 0x8000001D are laid out alike.
Caches caches_of_leaf(const Cpuid& cpuid, unsigned id) {
  enum Type { none, data, instructions, unified };
  Caches caches;
  for (unsigned i = 0; i < most_caches; i++) {
    const Leaf leaf = cpuid(id, i);
    const unsigned type = field(leaf.a, 0, 5);
    if (type == none) break;
    std::size_t* const place = of_level(caches, field(leaf.a, 5, 3));
    if (!place || (type != data && type != unified)) continue;
    const std::uint64_t bytes = (std::uint64_t{field(leaf.b, 22, 10)} + 1)  // ways
                                * (field(leaf.b, 12, 10) + 1)               // partitions
                                * (field(leaf.b, 0, 12) + 1)                // bytes of a line
                                * (std::uint64_t{leaf.c} + 1);              // sets
    if (bytes <= largest) *place = bytes;
  }
  return caches;
}

std::string first_line(const std::string& path) {
  std::ifstream file(path);
  std::string line;
  std::getline(file, line);
  return line;
}

}  // namespace

Caches caches_of_cpuid(const Cpuid& cpuid) {
  const Caches caches = caches_of_leaf(cpuid, 4);
  return caches.l1d > 0 ? caches : caches_of_leaf(cpuid, 0x8000001D);
}

Caches caches_of_sys(const std::string& directory) {
  Caches caches;
  for (unsigned i = 0; i < most_caches; i++) {
    const std::string base = directory + "/index" + std::to_string(i) + "/";
    const std::string type = first_line(base + "type"), size = first_line(base + "size");
    std::size_t* const place = of_level(
        caches, static_cast<unsigned>(std::strtoul(first_line(base + "level").c_str(), nullptr, 10)));
    if (!place || size.empty() || type == "Instruction") continue;
    std::uint64_t bytes = std::strtoull(size.c_str(), nullptr, 10);
    if (bytes > largest) continue;
    if (size.back() == 'K') bytes <<= 10;
    if (size.back() == 'M') bytes <<= 20;
    if (bytes <= largest) *place = bytes;
  }
  return caches;
}

Caches read_caches(const Cpuid& cpuid, const std::string& directory) {
  constexpr unsigned hybrid = 1u << 15;
  if (cpuid(7, 0).d & hybrid) {
    const Caches kernels = caches_of_sys(directory);
    return kernels.l1d > 0 ? kernels : caches_of_cpuid(cpuid);
  }
  const Caches own = caches_of_cpuid(cpuid);
  return own.l1d > 0 ? own : caches_of_sys(directory);
}

}  // namespace replk::core
