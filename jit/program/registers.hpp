// Register assignment for straight-line code.
#pragma once
#include <cstdint>
#include <vector>

#include "jit/program/lower.hpp"

namespace replk::jit {

struct Operand {
  enum class Kind : std::uint8_t { none, reg, input, output, constant, slot };
  Kind kind = Kind::none;
  int stream = 0, index = 0;  // register or slot number in index
  float value = 0;            // of a constant
  bool in_memory() const { return kind != Kind::none && kind != Kind::reg; }
};

/// One machine instruction. result is a register, except for a store. A load is Op::store the other way
/// round: it has `load` set and moves a (memory or register) to result.
struct Instruction {
  Op op = Op::add;
  bool load = false;
  Operand result, a, b, c;
};

struct RegisterOptions {
  int registers = 16;
  /// Streams (a bit each) whose outputs may be read back instead of spilled.
  std::uint32_t readable_outputs = 0;
  /// An operand in memory is brought into a register when it is used again within so many steps, else read in
  /// place.
  int window = 24;
  /// Streams whose inputs are not fp32 in memory: they are not read in place, only brought into a register.
  std::uint32_t converted_inputs = 0;
};

/// What a processor spends on a list: each is a count of instructions, memory operands included in loads.
struct Counts {
  int instructions = 0, multiplies = 0, adds = 0, loads = 0, stores = 0;
  friend Counts operator+(const Counts& a, const Counts& b) {
    return {a.instructions + b.instructions, a.multiplies + b.multiplies, a.adds + b.adds, a.loads + b.loads,
            a.stores + b.stores};
  }
  friend Counts operator*(const Counts& a, int times) {
    return {a.instructions * times, a.multiplies * times, a.adds * times, a.loads * times, a.stores * times};
  }
};

struct Allocation {
  std::vector<Instruction> instructions;
  int slots = 0;  // vectors of stack
  Counts counts;
};

/// Assigns registers in the list's order; where none is free, the value whose next use is furthest goes
/// (Belady 1966), one that memory still holds before one that must be written.
Allocation assign_registers(const Listing& list, const RegisterOptions& options);

}  // namespace replk::jit
