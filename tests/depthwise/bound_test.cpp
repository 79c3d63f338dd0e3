// Class fast within its bound (docs/algorithms.md, Numerics) in every algorithm, on data on which errors add
// up rather than cancel: constants, boxes on a ground, pictures, one pixel above all others, means far from
// 0.
//
// REPLK_SWEEP: quick (the default) or long.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <cstring>
#include <map>

#include "core/cpu.hpp"
#include "jit/x64/code.hpp"
#include "tests/depthwise/case.hpp"

namespace replk::depthwise {
namespace {

Isa best_isa() {
  return jit::code_allowed() ? core::cpu().isa : Isa::portable;
}

enum class Pattern { random, constant, box, picture, spike, mean, kinds };
enum class Taps { even, positive, random, bell, kinds };

float pattern_value(Pattern pattern, int row, int column, const Problem& p, float level,
                    std::mt19937_64& random) {
  std::normal_distribution<float> normal;
  switch (pattern) {
    case Pattern::constant:
      return level;
    case Pattern::box:
      return row >= p.height / 4 && row < 3 * p.height / 4 && column >= p.width / 4 ? level : 0.001f * level;
    case Pattern::picture:  // smooth, in 0..1, with an edge
      return 0.5f + 0.3f * std::sin(0.11f * row) * std::cos(0.07f * column) +
             (3 * row > 2 * column ? 0.19f : 0.0f);
    case Pattern::spike:
      return row == p.height / 3 && column == p.width / 2 ? 1000 * level : level;
    case Pattern::mean:
      return 100 * level + normal(random);
    default:
      return normal(random);
  }
}

/// Data of these kinds; every channel has a level of its own.
void fill(Case& c, Pattern pattern, Taps kind, std::uint64_t seed) {
  const Problem& p = c.problem;
  std::mt19937_64 random(seed);
  std::uniform_real_distribution<float> level(0.1f, 2.0f);
  for (std::size_t i = 0; i < p.branches.size(); i++) {
    const Branch& b = p.branches[i];
    for (int channel = 0; channel < p.channels; channel++) {
      float* w = &c.branch_weights[i][static_cast<std::size_t>(channel) * b.taps()];
      const float each = (channel % 2 ? level(random) : 1.0f) / static_cast<float>(b.taps());
      for (int t = 0; t < b.taps(); t++) {
        const float y = static_cast<float>(t / b.kernel_w) / b.kernel_h - 0.5f,
                    x = static_cast<float>(t % b.kernel_w) / b.kernel_w - 0.5f;
        if (kind == Taps::even) w[t] = each;
        if (kind == Taps::positive) w[t] = each * level(random);
        if (kind == Taps::bell) w[t] = each * std::exp(-8 * (x * x + y * y));
      }
    }
  }
  std::vector<float> levels(p.channels);
  for (float& each : levels) each = level(random);
  const bool planes = p.layout == Layout::nchw;
  for (std::int64_t i = 0; i < c.src.elements(); i++) {
    const std::int64_t area = std::int64_t{p.height} * p.width;
    const std::int64_t pixel = planes ? i % area : i / p.channels % area;
    const auto channel = static_cast<int>(planes ? i / area % p.channels : i % p.channels);
    c.src.set(i, pattern_value(pattern, static_cast<int>(pixel / p.width), static_cast<int>(pixel % p.width),
                               p, levels[channel], random));
  }
}

class Bound : public testing::Test {
 protected:
  /// Every algorithm and instruction set in turn: the candidate predicted best and another one.
  void every_algorithm(const Case& c, std::uint64_t seed) {
    const Problem& p = c.problem;
    const auto samples = sampled_outputs(p, 300, seed);
    Storage dst(p.output_type(), p.output_elements());
    const auto expected = reference(p, c.weights, c.bias, c.tensors(dst), samples);
    for (const Isa isa : {Isa::portable, Isa::avx2, Isa::avx512}) {
      if (isa > best_isa()) continue;
      for (const Algorithm* algorithm : algorithms()) {
        if (algorithm->name() == "portable" && isa != Isa::portable) continue;
        const auto found = algorithm->candidates(request_of(p, isa));
        if (found.empty()) continue;
        for (const Tiling& tiling : {found.front().tiling, found[seed % found.size()].tiling}) {
          PlanOptions options;
          options.tiling = tiling;
          options.isa = isa;
          options.threads = 1;
          const Plan plan(p, c.weights, c.bias, options);
          std::memset(dst.data(), 0xff, dst.bytes());
          plan.run(c.tensors(dst));
          const double of_bound =
              compare(p, c.weights, c.bias, c.tensors(dst), samples, expected).max_of_allowed;
          EXPECT_LE(of_bound, 1) << to_string(p) << " " << name(isa) << ": " << tiling.to_string();
          double& worst = worst_[std::string(algorithm->name()) + " " + std::string(name(isa))];
          if (p.output_type() == DataType::f32) worst = std::max(worst, of_bound);
          if (found.size() == 1) break;
        }
      }
    }
  }
  void TearDown() override {
    for (const auto& [name, worst] : worst_) std::printf("%s: %.2f of the bound\n", name.c_str(), worst);
  }
  std::map<std::string, double> worst_;
};

Problem fast(Problem p) {
  p.numerics = Numerics::fast;
  return p;
}

/// What the errors of long chains and of small transforms were found with.
TEST_F(Bound, HoldsWhereItDidNot) {
  for (const char* shape :
       {"n1c64h63w63k63p0nobias", "n1c64h31w31k31p0nobias", "n1c64h14w14k13p0nobias", "n1c64h14w14k7p0",
        "n1c24h20w20k31+gelu", "n1c17h30w28k9x51,51x9", "n1c9h63w20k63x7nchw", "n1c20h19w19k17bf16+residual",
        "n1c32h5w1k7x1s2x1p1x0nobias", "n1c4h4w1k5x1s2x1p1x0nobias"})
    for (int pattern = 0; pattern < static_cast<int>(Pattern::kinds); pattern++)
      for (int taps = 0; taps < static_cast<int>(Taps::kinds); taps++) {
        Case c(shape, 100 + pattern);
        fill(c, static_cast<Pattern>(pattern), static_cast<Taps>(taps), 7 * pattern + taps);
        SCOPED_TRACE("pattern " + std::to_string(pattern) + ", taps " + std::to_string(taps));
        every_algorithm(c, pattern + taps);
      }
}

/// Where the largest of a channel's outputs may be small by chance, and so the bound.
TEST_F(Bound, HoldsForAFewOutputs) {
  for (const char* shape :
       {"n1c32h5w1k7x1s2x1p1x0nobias", "n1c4h4w1k5x1s2x1p1x0nobias", "n1c64h4w1k4x1p0nobias",
        "n1c64h1w7k1x7p0nobias", "n1c64h6w6k6p0nobias", "n1c64h4w5k7x2s2x1nobias"})
    for (std::uint64_t seed = 0; seed < 30; seed++) every_algorithm(Case(shape, seed), seed);
}

/// A spike that the stride passes over.
TEST_F(Bound, HoldsBesideWhatNoOutputSees) {
  for (const char* shape : {"n1c17h11w10k1s1x2", "n1c16h16w16k3d2s2", "n1c16h12w14k5x1s2"})
    for (std::uint64_t seed = 0; seed < 8; seed++) {
      Case c(shape, seed);
      fill(c, Pattern::spike, Taps::kinds, seed);
      every_algorithm(c, seed);
    }
}

/// Constant steps beside a bias a thousand times as large: each of them is rounded alike.
TEST_F(Bound, HoldsBesideALargeBias) {
  for (const char* shape :
       {"n1c64h14w14k4", "n1c64h14w14k5", "n1c64h14w14k7", "n1c64h14w14k13", "n1c64h31w31k31"})
    for (std::uint64_t seed = 0; seed < 4; seed++) {
      Case c(shape, seed);
      fill(c, Pattern::constant, Taps::even, seed);
      for (std::size_t i = 0; i < c.bias.size(); i++) c.bias[i] = 1.0f + 900.0f * static_cast<float>(i % 2);
      every_algorithm(c, seed);
    }
}

TEST_F(Bound, HoldsOnSeededShapes) {
  const char* given = std::getenv("REPLK_SWEEP");
  const std::uint64_t shapes = given && std::string(given) == "long" ? 2000 : 60;
  for (std::uint64_t seed = 0; seed < shapes; seed++) {
    // Small maps and kernels that reach across them, and every eighth a larger one.
    const int side = seed % 8 == 0 ? 40 : 4 + static_cast<int>(seed % 15);
    Case c(fast(random_problem(seed + 500000, side, side)), seed);
    const auto pattern = static_cast<Pattern>(seed % static_cast<int>(Pattern::kinds));
    const auto taps = static_cast<Taps>(seed / 7 % static_cast<int>(Taps::kinds));
    fill(c, pattern, taps, seed);
    SCOPED_TRACE("seed " + std::to_string(seed));
    every_algorithm(c, seed);
  }
}

}  // namespace
}  // namespace replk::depthwise
