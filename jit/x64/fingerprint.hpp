// Which generator this is: a hash of code that it emits.
#pragma once
#include <cstdint>

#include "core/cpu.hpp"

namespace replk::jit {

/// A hash of the bytes that each kind of kernel gets for a few fixed specs with this instruction set: what
/// was measured with another one says nothing about the code of this process, and nobody has to remember to
/// say so. Small kernels, made once a process and set; a millisecond or two. 0 for portable. Thread-safe.
std::uint64_t fingerprint(Isa isa);

}  // namespace replk::jit
