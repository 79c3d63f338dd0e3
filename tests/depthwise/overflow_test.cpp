// Numbers near the largest float: results that are finite stay finite in class fast, in every algorithm, and
// large numbers in one channel change no bit of another.
#include <gtest/gtest.h>

#include <algorithm>
#include <cfenv>
#include <cmath>
#include <cstring>
#include <limits>

#include "core/cpu.hpp"
#include "core/threads.hpp"
#include "jit/x64/code.hpp"
#include "tests/depthwise/case.hpp"

namespace replk::depthwise {
namespace {

constexpr float fill_value = 9.96921e36f;  // of NetCDF
constexpr float largest = std::numeric_limits<float>::max();

PlanOptions with(const Tiling& tiling, int threads = 1) {
  PlanOptions options;
  options.tiling = tiling;
  options.threads = threads;
  return options;
}

/// The candidate predicted best of every algorithm, and its last one.
std::vector<Tiling> tilings(const Problem& p) {
  const Isa isa = jit::code_allowed() ? core::cpu().isa : Isa::portable;
  std::vector<Tiling> all;
  for (const Algorithm* a : algorithms()) {
    const auto found = a->candidates(request_of(p, isa));
    if (found.empty()) continue;
    all.push_back(found.front().tiling);
    if (found.size() > 1) all.push_back(found.back().tiling);
  }
  return all;
}

std::int64_t input_index(const Problem& p, int channel, int row, int column) {
  return p.layout == Layout::nchw ? (std::int64_t{channel} * p.height + row) * p.width + column
                                  : (std::int64_t{row} * p.width + column) * p.channels + channel;
}
int channel_of(const Problem& p, std::int64_t output) {
  return static_cast<int>(p.layout == Layout::nchw ? output / p.out_height() / p.out_width()
                                                   : output % p.channels);
}

/// Inputs in 0..1 and weights that add up to 1: means of what a window sees.
void make_means(Case& c) {
  for (std::int64_t i = 0; i < c.src.elements(); i++) c.src.set(i, 0.5f + 0.125f * c.src.get(i));
  for (std::size_t i = 0; i < c.branch_weights.size(); i++)
    for (float& w : c.branch_weights[i]) w = 1.0f / static_cast<float>(c.problem.branches[i].taps());
}

/// Runs every tiling; results are finite where the reference is, and within the bound.
void check(const Case& c) {
  const Problem& p = c.problem;
  Storage none(p.type, 1);
  const auto samples = all_outputs(p);
  auto expected = reference(p, c.weights, c.bias, c.tensors(none), samples);
  for (double& value : expected)  // what fp32 cannot hold
    if (std::fabs(value) > 0x1.ffffffp127) value = std::copysign(HUGE_VAL, value);
  for (const Tiling& tiling : tilings(p)) {
    SCOPED_TRACE(to_string(p) + ": " + tiling.to_string());
    Storage got = c.run(with(tiling));
    EXPECT_LE(compare(p, c.weights, c.bias, c.tensors(got), samples, expected).max_of_allowed, 1);
    EXPECT_EQ(differing(got, c.run(with(tiling, 3))), 0);
  }
}

TEST(Overflow, OneLargePixel) {
  for (const char* shape : {"n1c16h56w56k31nobias", "n1c19h14w15k13nchw+relu", "n1c9h12w12k13x3,3x13",
                            "n2c17h9w9k7+gelu+residual", "n1c8h9w9k3s2bf16"}) {
    Case c(shape);
    make_means(c);
    c.src.set(input_index(c.problem, 3, 4, 5), c.problem.type == DataType::bf16 ? -3.3e38f : -3.4e38f);
    check(c);
  }
}

TEST(Overflow, AFillValueInAQuarterOfTheMap) {
  for (const char* shape : {"n1c16h56w56k31nobias", "n1c19h14w15k13nchw+relu", "n1c12h20w20k7+gelu"}) {
    Case c(shape);
    make_means(c);
    for (int channel = 0; channel < c.problem.channels; channel += 2)
      for (int y = 0; y < c.problem.height / 2; y++)
        for (int x = 0; x < c.problem.width / 2; x++)
          c.src.set(input_index(c.problem, channel, y, x), fill_value);
    check(c);
  }
}

/// At any size up to the largest float, of either sign, everywhere: what overflows first depends on the size.
TEST(Overflow, EverySize) {
  for (const char* shape : {"n1c11h14w14k13+relu", "n1c11h14w14k13nchw+gelu", "n1c16h9w30k5x17+residual"})
    for (const float size : {1e30f, 1e33f, 3e34f, 1e36f, 3e37f, 2e38f, largest})
      for (const float sign : {1.0f, -1.0f}) {
        Case c(shape);
        make_means(c);
        std::mt19937_64 random(5);
        for (std::int64_t i = 0; i < c.src.elements(); i++)
          c.src.set(i, random() % 4 ? sign * size : -sign * size * 0.5f);
        for (std::int64_t i = 0; i < c.residual.elements(); i++)
          c.residual.set(i, c.residual.get(i) * size * 0.1f);
        check(c);
      }
}

/// Products that are infinite and cancel, bias and residual that bring a sum back.
TEST(Overflow, SumsThatAreFiniteInTheEnd) {
  for (const char* shape : {"n1c16h8w8k5p0nobias", "n1c16h8w8k7+residual", "n1c16h8w8k4p1+relu"}) {
    Case c(shape);
    const int taps = c.problem.branches[0].taps();
    for (std::size_t i = 0; i < c.branch_weights[0].size(); i++) {
      const auto tap = static_cast<int>(i % static_cast<std::size_t>(taps));
      c.branch_weights[0][i] = tap == 0 || tap == 1                 ? 2.0f
                               : tap == taps - 1 || tap == taps - 2 ? -2.0f
                                                                    : 0.01f;
    }
    for (std::int64_t i = 0; i < c.src.elements(); i++) c.src.set(i, 2e38f);
    for (float& b : c.bias) b = -1e38f;
    for (std::int64_t i = 0; i < c.residual.elements(); i++) c.residual.set(i, -3e38f);
    check(c);
  }
}

TEST(Overflow, WeightsNearTheLargestFloat) {
  for (const char* shape : {"n1c16h14w14k13", "n1c9h10w10k7nchw+relu"}) {
    Case c(shape);
    const int taps = c.problem.branches[0].taps();
    for (std::size_t i = 0; i < c.branch_weights[0].size(); i++)  // of every other channel
      if (i / taps % 2 == 1) c.branch_weights[0][i] = std::copysign(3e38f, c.branch_weights[0][i]);
    for (std::int64_t i = 0; i < c.src.elements(); i++) c.src.set(i, 1e-3f * c.src.get(i));
    check(c);
  }
}

TEST(Overflow, TheResidualMayBeTheOutput) {
  for (const char* shape : {"n1c16h14w14k13+relu+residual", "n1c9h12w12k13x3,3x13+residual",
                            "n1c11h10w10k7nchwbf16+gelu+residual"}) {
    Case c(shape);
    make_means(c);
    for (const float large : {0.5f, 3e38f}) {
      c.src.set(input_index(c.problem, 2, 3, 4), large);
      for (const Tiling& tiling : tilings(c.problem)) {
        const Storage apart = c.run(with(tiling));
        const Plan plan(c.problem, c.weights, c.bias, with(tiling));
        Storage both(c.problem.output_type(), c.problem.output_elements());
        std::memcpy(both.data(), c.residual.data(), both.bytes());
        plan.run({c.src.data(), both.data(), both.data()});
        EXPECT_EQ(differing(apart, both), 0) << shape << ": " << tiling.to_string();
      }
    }
  }
}

TEST(Overflow, OtherChannelsKeepTheirBitsAndInfinitiesStay) {
  for (const char* shape : {"n1c19h14w14k13", "n1c19h14w14k7nchw+gelu", "n1c17h12w12k13x3,3x13"}) {
    Case c(shape), marked(shape);
    make_means(c);
    make_means(marked);
    const Problem& p = c.problem;
    marked.src.set(input_index(p, 1, 5, 5), largest);
    marked.src.set(input_index(p, 2, 5, 5), std::nanf(""));
    marked.src.set(input_index(p, 3, 5, 5), std::numeric_limits<float>::infinity());
    for (const Tiling& tiling : tilings(p)) {
      SCOPED_TRACE(to_string(p) + ": " + tiling.to_string());
      const Storage clean = c.run(with(tiling)), got = marked.run(with(tiling));
      int invalid = 0;
      for (std::int64_t i = 0; i < got.elements(); i++) {
        const int channel = channel_of(p, i);
        invalid += !std::isfinite(got.get(i));
        if (channel == 1) {
          ASSERT_TRUE(std::isfinite(got.get(i)));
        } else if (channel == 0 || channel > 3) {
          ASSERT_EQ(std::bit_cast<std::uint32_t>(clean.get(i)), std::bit_cast<std::uint32_t>(got.get(i)));
        }
      }
      EXPECT_GT(invalid, 2 * 9);
    }
  }
}

/// What is infinite in fp32 is infinite.
TEST(Overflow, InfiniteResultsAreInfinite) {
  Case c("n1c8h10w10k7nobias");
  for (float& w : c.branch_weights[0]) w = 1;
  for (std::int64_t i = 0; i < c.src.elements(); i++) c.src.set(i, i % 8 == 1 ? -3e38f : 1.0f);
  for (const Tiling& tiling : tilings(c.problem)) {
    const Storage got = c.run(with(tiling));
    for (std::int64_t i = 0; i < got.elements(); i++)
      ASSERT_EQ(std::isfinite(got.get(i)) ? 0 : got.get(i),
                i % 8 == 1 ? -std::numeric_limits<float>::infinity() : 0.0f)
          << tiling.to_string();
  }
}

TEST(Overflow, WhatTheCallersThreadHasNotedStays) {
  Case c("n1c16h14w14k13");
  make_means(c);
  c.src.set(100, largest);
  const Plan plan(c.problem, c.weights, c.bias, with(tilings(c.problem).back(), 2));
  Storage dst(c.problem.output_type(), c.problem.output_elements());
  for (const bool noted : {false, true}) {
    std::feclearexcept(FE_ALL_EXCEPT);
    if (noted) std::feraiseexcept(FE_OVERFLOW);
    plan.run(c.tensors(dst));
    EXPECT_EQ(std::fetestexcept(FE_OVERFLOW) != 0, noted);
    for (std::int64_t i = 0; i < dst.elements(); i++) ASSERT_TRUE(std::isfinite(dst.get(i)));
  }
  std::feclearexcept(FE_ALL_EXCEPT);
}

}  // namespace
}  // namespace replk::depthwise
