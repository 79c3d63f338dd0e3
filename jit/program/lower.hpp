// From a recorded program to a list of machine operations in SSA form: signs resolved, multiplications fused
// into the sums that use them, in the order of the recording.
#pragma once
#include <array>
#include <cstdint>
#include <vector>

#include "jit/program/program.hpp"

namespace replk::jit {

/// What an operand is. Inputs and constants live in memory and can be read again for free; temporaries
/// cannot.
struct Source {
  enum class Kind : std::uint8_t { temporary, input, constant };
  Kind kind = Kind::temporary;
  int stream = 0, index = 0;  // of an input
  float value = 0;            // of a constant
};

enum class Op : std::uint8_t {
  add,     // a + b
  sub,     // a - b
  mul,     // a * b
  fma,     // a * b + c
  fms,     // a * b - c
  fnma,    // c - a * b
  fnms,    // -(a * b) - c
  negate,  // -a
  relu,    // max(a, 0)
  zero,    // 0
  store,   // output (stream, index) = a
};
constexpr bool is_fused(Op op) {
  return op == Op::fma || op == Op::fms || op == Op::fnma || op == Op::fnms;
}

struct Step {
  Op op = Op::add;
  int result = -1;                    // index into sources, or -1 for a store
  std::array<int, 3> in{-1, -1, -1};  // a, b, c: indices into sources
  int stream = 0, index = 0;          // of a store
};

struct Listing {
  std::vector<Source> sources;
  std::vector<Step> steps;
  std::vector<int> signs;  // an entry per output of the program: +1, or -1 where its negative is stored
};

/// Steps come in the order in which they were recorded, sub-transform by sub-transform or tile by tile. A
/// store follows the step that gives its value: storing at once costs no register. Recursive bisection
/// (Frigo, PLDI 1999) was tried and left out: 0 to 5 % fewer instructions in transforms for 5 to 18 % more
/// memory operands, and about twice those in Toeplitz products.
///
/// free_signs: streams (bit s for stream s) whose outputs may be stored negated; Listing::signs says which
/// are.
Listing lower(const Program& program, std::uint32_t free_signs = 0);

}  // namespace replk::jit
