// How large the data caches are.
#pragma once
#include <cstddef>
#include <functional>
#include <string>

#include "core/cpuid.hpp"

namespace replk::core {

/// Bytes that a core can use, shared with others or not; 0: there is none, or nobody says.
struct Caches {
  std::size_t l1d = 0, l2 = 0, l3 = 0;
  bool operator==(const Caches&) const = default;
};

using Cpuid = std::function<Leaf(unsigned id, unsigned sub)>;

/// From leaf 4 (Intel), else leaf 0x8000001D (AMD): no file is needed, so it works in a chroot or a sandbox
/// without /sys as well.
Caches caches_of_cpuid(const Cpuid& cpuid);

/// From Linux's index0, index1, ... in a directory such as /sys/devices/system/cpu/cpu0/cache.
Caches caches_of_sys(const std::string& directory);

/// CPUID's, and Linux's where CPUID says nothing; the other way round on a CPU with cores of two kinds,
/// whose CPUID answers for the core that just runs, so that the same machine is always described alike.
Caches read_caches(const Cpuid& cpuid, const std::string& directory);

}  // namespace replk::core
