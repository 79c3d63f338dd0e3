// From a recorded program to a list of machine operations in SSA form: signs resolved, multiplications fused
// into the sums that use them, in an order that keeps few values alive.
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

enum class Order : std::uint8_t {
  recorded,  // as written down: sub-transform by sub-transform
  bisected,  // recursive bisection from both ends (Frigo, PLDI 1999), optimal for transforms whatever the
             // registers
  deepest,   // each output in turn, operands first
};

struct LowerOptions {
  Order order = Order::recorded;
  /// Streams (bit s for stream s) whose outputs may be stored negated: Listing::signs tells which are.
  std::uint32_t free_signs = 0;
};

struct Listing {
  std::vector<Source> sources;
  std::vector<Step> steps;
  std::vector<int> signs;  // an entry per output of the program: +1, or -1 where its negative is stored
};

Listing lower(const Program& program, const LowerOptions& options);

}  // namespace replk::jit
