// The CPUID instruction.
#pragma once
#include <cpuid.h>

namespace replk::core {

/// The four registers of an answer; all zero where the CPU does not know the leaf.
struct Leaf {
  unsigned a = 0, b = 0, c = 0, d = 0;
};

inline Leaf leaf(unsigned id, unsigned sub = 0) {
  Leaf l;
  if (!__get_cpuid_count(id, sub, &l.a, &l.b, &l.c, &l.d)) return {};
  return l;
}

}  // namespace replk::core
