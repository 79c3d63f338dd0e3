// What recording and lowering make of small programs.
#include "jit/program/program.hpp"

#include <gtest/gtest.h>

#include <algorithm>

#include "jit/program/lower.hpp"

namespace replk::jit {
namespace {

double value(const Program& program) {
  return program.evaluate([](int, int i) { return 3.0 + i; })[0];
}

TEST(Program, EqualValuesCancelOrDouble) {
  Program program;
  const Real x = program.input(0, 0);
  EXPECT_TRUE((x - x).zero());
  EXPECT_TRUE((-x + x).zero());
  program.output(1, 0, x + x);
  EXPECT_EQ(value(program), 6);
  Program negative;
  const Real y = negative.input(0, 0);
  negative.output(1, 0, -y - y);
  EXPECT_EQ(value(negative), -6);
}

TEST(Program, ZerosAndOnesVanishAndSignsMoveOut) {
  Program program;
  const Real x = program.input(0, 0), y = program.input(0, 1);
  EXPECT_TRUE((0.0 * x).zero());
  EXPECT_TRUE((Real() * x).zero());
  program.output(1, 0, -1.0 * (x - 1.0 * (y + Real())));
  EXPECT_EQ(value(program), 1);
  EXPECT_EQ(program.nodes().size(), 3u) << "x, y and their difference";
}

TEST(Lower, ConstantsAreSharedByTheirBitsAndNoFurther) {
  const auto constants = [](double first, double second) {
    Program program;
    program.output(1, 0, first * program.input(0, 0));
    program.output(1, 1, second * program.input(0, 1));
    const Listing list = lower(program, {});
    return std::count_if(list.sources.begin(), list.sources.end(),
                         [](const Source& s) { return s.kind == Source::Kind::constant; });
  };
  EXPECT_EQ(constants(0.7, 0.7), 1);
  EXPECT_EQ(constants(0.75, 0.75 + 0x1p-24), 2) << "neighbours in fp32";
  EXPECT_EQ(constants(0.75, 0.75 + 0x1p-40), 1) << "the same in fp32";
}

}  // namespace
}  // namespace replk::jit
