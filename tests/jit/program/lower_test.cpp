// Random programs, lowered and given registers: both lists, run step by step, must store what the recording
// evaluates to.
#include "jit/program/lower.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <map>
#include <random>
#include <utility>
#include <vector>

#include "jit/program/registers.hpp"

namespace replk::jit {
namespace {

constexpr int in_stream = 0, out_stream = 1, free_stream = 2;
constexpr double unset = NAN;  // whatever reads it shows

double input_value(int, int index) {
  return std::sin(1.0 + 1.7 * index * index);
}

/// What an operation gives of its operands, in double.
double apply(Op op, double a, double b, double c) {
  switch (op) {
    case Op::add:
      return a + b;
    case Op::sub:
      return a - b;
    case Op::mul:
      return a * b;
    case Op::fma:
      return a * b + c;
    case Op::fms:
      return a * b - c;
    case Op::fnma:
      return c - a * b;
    case Op::fnms:
      return -(a * b) - c;
    case Op::negate:
      return -a;
    case Op::relu:
      return std::max(a, 0.0);
    case Op::zero:
      return 0;
    case Op::store:
      return a;
  }
  return unset;
}

using Memory = std::map<std::pair<int, int>, double>;  // by stream and index

/// What a listing stores.
Memory run(const Listing& list) {
  std::vector<double> value(list.sources.size(), unset);
  for (std::size_t i = 0; i < value.size(); i++) {
    const Source& s = list.sources[i];
    if (s.kind == Source::Kind::input) value[i] = input_value(s.stream, s.index);
    if (s.kind == Source::Kind::constant) value[i] = double(s.value);
  }
  Memory memory;
  const auto of = [&](int operand) { return operand < 0 ? unset : value[std::size_t(operand)]; };
  for (const Step& s : list.steps) {
    const double result = apply(s.op, of(s.in[0]), of(s.in[1]), of(s.in[2]));
    if (s.op == Op::store)
      memory[{s.stream, s.index}] = result;
    else
      value[std::size_t(s.result)] = result;
  }
  return memory;
}

/// What instructions store, in as many registers as there are; also checks what the emitter relies on.
Memory run(const Allocation& allocation, int registers) {
  std::vector<double> reg(std::size_t(registers), unset), slot(std::size_t(allocation.slots), unset);
  Memory memory;
  const auto read = [&](const Operand& o) {
    switch (o.kind) {
      case Operand::Kind::none:
        return unset;
      case Operand::Kind::reg:
        return reg.at(std::size_t(o.index));
      case Operand::Kind::input:
        return input_value(o.stream, o.index);
      case Operand::Kind::output:
        return memory.at({o.stream, o.index});  // throws where it was not stored before
      case Operand::Kind::constant:
        return double(o.value);
      case Operand::Kind::slot:
        return slot.at(std::size_t(o.index));
    }
    return unset;
  };
  for (const Instruction& i : allocation.instructions) {
    EXPECT_LE(i.a.in_memory() + i.b.in_memory() + i.c.in_memory(), 1) << "an instruction has one address";
    if (is_fused(i.op)) {
      const auto overwritten = [&](const Operand& o) {
        return o.kind == Operand::Kind::reg && o.index == i.result.index;
      };
      EXPECT_TRUE(overwritten(i.a) || overwritten(i.b) || overwritten(i.c)) << "an fma overwrites an operand";
    }
    const double result = apply(i.op, read(i.a), read(i.b), read(i.c));
    if (i.result.kind == Operand::Kind::reg)
      reg.at(std::size_t(i.result.index)) = result;
    else if (i.result.kind == Operand::Kind::slot)
      slot.at(std::size_t(i.result.index)) = result;
    else
      memory[{i.result.stream, i.result.index}] = result;
  }
  return memory;
}

/// Sums, differences, multiples (their factors exact in fp32), products and ReLUs of earlier values, some of
/// them used often, some never.
void record(Program& program, std::mt19937& random, int inputs, int steps, int outputs) {
  const auto below = [&](std::size_t count) { return std::size_t(random() % count); };
  std::vector<Real> values;
  for (int i = 0; i < inputs; i++) values.push_back(program.input(in_stream, i));
  values.push_back(Real());
  for (int i = 0; i < steps; i++) {
    const Real a = values[below(values.size())], b = values[below(values.size())];
    switch (random() % 8) {
      case 0:
      case 1:
        values.push_back(a + b);
        break;
      case 2:
      case 3:
        values.push_back(a - b);
        break;
      case 4:
      case 5:
        values.push_back((0.125 * double(int(random() % 15) - 7)) * a);
        break;
      case 6:
        values.push_back((0.5 * a) * (0.5 * b));
        break;
      default:
        values.push_back(relu(random() % 2 ? a : -a));
    }
  }
  for (int i = 0; i < outputs; i++) {
    const Real value = values[values.size() - 1 - below(std::min<std::size_t>(values.size(), 24))];
    program.output(i % 3 == 0 ? free_stream : out_stream, i, random() % 2 ? value : -value);
  }
}

/// Against what the recording gives; of the order of the values, which grow.
void expect_stored(const Program& program, const Listing& list, const Memory& stored) {
  const std::vector<double> wanted = program.evaluate(input_value);
  ASSERT_EQ(stored.size(), wanted.size());
  for (std::size_t j = 0; j < wanted.size(); j++) {
    const Output& o = program.outputs()[j];
    const double got = stored.at({o.stream, o.index}) * list.signs[j];
    ASSERT_NEAR(got, wanted[j], 1e-9 * (1 + std::abs(wanted[j]))) << "output " << j;
  }
}

TEST(Lower, ListingsAndRegistersGiveWhatTheProgramDoes) {
  std::mt19937 random(1);
  int spilled = 0, negated = 0;
  for (int round = 0; round < 2000; round++) {
    Program program;
    record(program, random, 1 + int(random() % 12), 4 + int(random() % 120), 1 + int(random() % 20));
    const Listing list = lower(program, 1u << free_stream);
    expect_stored(program, list, run(list));
    for (std::size_t j = 0; j < list.signs.size(); j++) {
      negated += list.signs[j] < 0;
      ASSERT_TRUE(list.signs[j] == 1 || program.outputs()[j].stream == free_stream);
    }
    for (const int registers : {4, 7, 16, 32}) {
      const RegisterOptions options{registers, random() % 2 ? 1u << out_stream : 0u, int(random() % 40)};
      const Allocation allocation = assign_registers(list, options);
      spilled += allocation.slots > 0;
      expect_stored(program, list, run(allocation, registers));
      ASSERT_EQ(allocation.counts.instructions, int(allocation.instructions.size()));
    }
    if (HasFatalFailure()) FAIL() << "round " << round;
  }
  EXPECT_GT(spilled, 200);  // or they do not try what they are to
  EXPECT_GT(negated, 200);
}

TEST(Lower, WhatNoOutputNeedsIsNotComputed) {
  Program program;
  const Real x = program.input(in_stream, 0), y = program.input(in_stream, 1);
  program.output(out_stream, 0, x + y);
  static_cast<void>(x * y);
  EXPECT_EQ(program.nodes().size(), 4u);
  EXPECT_EQ(lower(program).steps.size(), 2u) << "a sum and its store";
}

TEST(Registers, AreNeverMoreThanThereAre) {
  Program program;
  std::vector<Real> sums;
  for (int i = 0; i < 40; i++) sums.push_back(program.input(in_stream, i) + program.input(in_stream, i + 1));
  for (int i = 0; i < 40; i++)
    program.output(out_stream, i, sums[std::size_t(i)] + sums[std::size_t(39 - i)]);
  const Listing list = lower(program);
  const Allocation few = assign_registers(list, {.registers = 8}),
                   many = assign_registers(list, {.registers = 32});
  expect_stored(program, list, run(few, 8));  // at() throws beyond the last register
  EXPECT_GT(few.slots, many.slots);
  EXPECT_GT(few.counts.loads, many.counts.loads);
}

}  // namespace
}  // namespace replk::jit
