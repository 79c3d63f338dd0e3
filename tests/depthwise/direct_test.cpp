// Generated code against portable: 0 differing bits, whatever the tiling, the threads and the instruction
// set.
#include "depthwise/direct/direct.hpp"

#include <fmt/format.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <set>

#include "core/cpu.hpp"
#include "jit/x64/code.hpp"
#include "tests/depthwise/case.hpp"

namespace replk::depthwise {
namespace {

/// Runs for each instruction set; skips, and says why, where this machine has it not.
class Direct : public testing::TestWithParam<Isa> {
 protected:
  void SetUp() override {
    if (core::cpu().hardware < GetParam()) GTEST_SKIP() << "this CPU has no " << name(GetParam());
    if (!jit::code_allowed()) GTEST_SKIP() << "this system forbids executable memory";
  }
  static PlanOptions forced(const Tiling& tiling, int threads = 1) {
    PlanOptions options;
    options.threads = threads;
    options.tiling = tiling;
    options.isa = GetParam();
    return options;
  }
  static std::vector<Tiling> candidates(const Problem& p) {
    std::vector<Tiling> tilings;
    for (const Candidate& c : direct_algorithm().candidates(request_of(p, GetParam())))
      tilings.push_back(c.tiling);
    return tilings;
  }
  /// Any legal tiling, worth trying or not.
  static Tiling random_tiling(const Problem& p, std::uint64_t seed) {
    std::mt19937_64 random(seed);
    const Request request = request_of(p, GetParam());
    for (int tries = 0; tries < 1000; tries++) {
      Tiling t{"direct", {}};
      t.set("rows", 1 + static_cast<int>(random() % 6)).set("columns", 1 + static_cast<int>(random() % 30));
      t.set("ring", static_cast<int>(random() % 2)).set("blocks", 1 + static_cast<int>(random() % 6));
      if (legal(request, t)) return t;
    }
    return Tiling{"direct", {}};
  }
};

TEST_P(Direct, HasTheBitsOfPortable) {
  int runs = 0;
  for (std::uint64_t seed = 1000; seed < 1300; seed++) {
    const Problem p = random_problem(seed);
    const Case c(p, seed);
    const Storage expected = c.run(portable_options());
    if (meeting_taps(p, merged_geometry(p)) == 0) continue;
    const auto tilings = candidates(p);
    ASSERT_FALSE(tilings.empty()) << to_string(p);
    std::vector<Tiling> tried{tilings.front(), tilings[seed % tilings.size()]};
    for (int i = 0; i < 3; i++) tried.push_back(random_tiling(p, seed + i));
    for (std::size_t i = 0; i < tried.size(); i++, runs++)
      ASSERT_EQ(differing(expected, c.run(forced(tried[i], 1 + static_cast<int>(i) % 4))), 0)
          << to_string(p) << ": " << tried[i].to_string();
  }
  EXPECT_GE(runs, 1000);
}

TEST_P(Direct, EveryCandidateOfTypicalShapes) {
  for (const char* shape :
       {"n1c40h14w14k13exact+relu", "n2c24h7w7k7exact+gelu", "n1c20h20w19k5exact+residual",
        "n1c16h19w23k3s2exact", "n1c9h12w12k31exact", "n1c32h13w13k7bf16exact+residual",
        "n1c19h13w13k7nchwexact+relu", "n1c8h16w16k5d3exact", "n1c12h15w15k11x3,3x11exact"}) {
    const Case c(shape);
    const Storage expected = c.run(portable_options());
    for (const Tiling& tiling : candidates(c.problem))
      EXPECT_EQ(differing(expected, c.run(forced(tiling))), 0) << shape << ": " << tiling.to_string();
  }
}

// Rows that lie a dilation apart are a map of their own: tiles have several of them, as without holes, and
// the first ones of all maps, their ends and their borders lie in different rows.
TEST_P(Direct, TilesOfADilatedKernelHaveSeveralRows) {
  for (const char* shape :
       {"n1c33h17w16k5d3exact+gelu+residual", "n2c24h9w10k3d4nchwexact", "n1c16h14w13k3d2p0bf16exact+relu",
        "n1c8h4w9k3d3exact", "n1c19h23w12k5d2,3d4exact", "n1c16h20w11k3d5s1x2exact", "n1c40h16w15k7d2"}) {
    const Case c(shape);
    const Storage expected = c.run(portable_options());
    int most = 0;
    for (const Tiling& tiling : candidates(c.problem)) {
      most = std::max(most, tiling.number("rows", 0));
      for (const int threads : {1, 3}) {
        const Storage actual = c.run(forced(tiling, threads));
        if (c.problem.numerics == Numerics::exact)
          ASSERT_EQ(differing(expected, actual), 0)
              << shape << ": " << tiling.to_string() << " on " << threads;
        else
          ASSERT_EQ(differing(c.run(forced(tiling)), actual), 0) << shape << ": " << tiling.to_string();
      }
    }
    EXPECT_GT(most, 1) << shape;
  }
}

// Where pixels are read line after line from beyond the L2: they are tried whatever the model says of them.
TEST_P(Direct, TilesOfOnePixelOfAllChannels) {
  const auto rows_of = [](const char* shape, std::size_t most) {
    std::set<int> rows;
    for (const Candidate& each : direct_algorithm().candidates(request_of(parse(shape), GetParam()), most)) {
      if (each.tiling.number("columns", 0) == 1) rows.insert(each.tiling.number("rows", 0));
    }
    return rows;
  };
  EXPECT_EQ(rows_of("n1c128h96w96k3", 4), (std::set{2, 3, 4}));
  EXPECT_EQ(rows_of("n1c128h14w14k3", SIZE_MAX), std::set<int>()) << "stays in the L2";
  EXPECT_EQ(rows_of("n1c4096h96w96k3", SIZE_MAX), std::set<int>()) << "what it meets does not stay in the L1";
  EXPECT_EQ(rows_of("n1c128h96w96k3nchw", SIZE_MAX), std::set<int>()) << "pixels do not lie together";
  for (const char* shape : {"n2c41h9w11k3exact+relu+residual", "n1c70h10w9k3s2exact", "n1c33h17w16k5d3exact",
                            "n1c37h8w7k5exact+gelu"}) {
    const Case c(shape);
    const Storage expected = c.run(portable_options());
    for (int rows = 2; rows <= 4; rows++) {
      const Tiling tiling = Tiling::parse(fmt::format("direct rows={} columns=1 ring=0 blocks=10", rows));
      for (const int threads : {1, 3})
        EXPECT_EQ(differing(expected, c.run(forced(tiling, threads))), 0) << shape << ": " << rows;
    }
  }
}

// The code cache must tell them apart: their code differs in the epilogue alone.
TEST_P(Direct, EveryEpilogueOfOneShapeInOneProcess) {
  const Tiling tiling = Tiling::parse("direct rows=2 columns=3 ring=1 blocks=1");
  for (const char* epilogue :
       {"", "+residual", "+relu", "+relu+residual", "+gelu", "+gelu+residual", "nobias"}) {
    const Case c(std::string("n1c21h9w9k3exact") + epilogue);
    EXPECT_EQ(differing(c.run(portable_options()), c.run(forced(tiling))), 0) << epilogue;
  }
}

TEST_P(Direct, ThreadsDoNotChangeBits) {
  for (std::uint64_t seed = 0; seed < 60; seed++) {
    const Case c(random_problem(seed), seed);
    if (meeting_taps(c.problem, merged_geometry(c.problem)) == 0) continue;
    const Storage expected = c.run(portable_options());
    const Tiling tiling = random_tiling(c.problem, seed);
    for (const int threads : {1, 2, 3, 8, 64})
      ASSERT_EQ(differing(expected, c.run(forced(tiling, threads))), 0)
          << to_string(c.problem) << ": " << tiling.to_string() << " on " << threads;
  }
}

// Few channels must not leave threads without work.
TEST_P(Direct, OneImageOf128ChannelsHasWorkFor64Threads) {
  for (const char* shape : {"n1c128h56w56k3", "n1c128h56w56k5", "n1c128h56w56k7"}) {
    EXPECT_TRUE(some_candidate_has_work(direct_algorithm(), request_of(parse(shape), GetParam(), 64)))
        << shape;
  }
}

TEST_P(Direct, NansAndInfinitiesGoWherePortableSendsThem) {
  std::mt19937_64 random(7);
  for (const char* shape :
       {"n2c13h11w12k5exact", "n1c16h9w9k7exact+gelu", "n1c11h9w9k5nchwbf16exact+relu+residual"}) {
    Case c(shape);
    const float values[] = {std::numeric_limits<float>::quiet_NaN(), std::numeric_limits<float>::infinity(),
                            -std::numeric_limits<float>::infinity()};
    for (int i = 0; i < 12; i++)
      c.src.set(static_cast<std::int64_t>(random() % c.src.elements()), values[i % 3]);
    const Storage expected = c.run(portable_options());
    for (const Tiling& tiling : candidates(c.problem))
      ASSERT_EQ(differing(expected, c.run(forced(tiling))), 0) << shape << ": " << tiling.to_string();
  }
}

TEST_P(Direct, KeepsTheSignOfZeroAndOfADenormal) {
  Case c("n1c17h6w6k3exact");
  for (float& b : c.bias)
    b = -0.0f;  // fma(w, 0, -0) would lose it: taps outside the map must be skipped, not padded
  for (std::int64_t i = 0; i < c.src.elements(); i++) c.src.set(i, i % 3 ? -0.0f : std::ldexp(-1.0f, -140));
  const Storage expected = c.run(portable_options());
  for (const Tiling& tiling : candidates(c.problem))
    ASSERT_EQ(differing(expected, c.run(forced(tiling))), 0) << tiling.to_string();
}

TEST_P(Direct, TrustsNoTiling) {
  const Problem p = parse("n1c16h14w14k5exact");
  const Request request = request_of(p, GetParam());
  const auto legal = [&](const char* text) {
    return direct_algorithm().read(request, Tiling::parse(text)) != nullptr;
  };
  EXPECT_TRUE(legal("direct rows=2 columns=5 ring=1 blocks=1"));
  for (const char* text :
       {"direct", "direct rows=2 columns=5 ring=1", "direct rows=0 columns=5 ring=1 blocks=1",
        "direct rows=2 columns=5 ring=2 blocks=1", "direct rows=2 columns=99 ring=1 blocks=1",
        "direct rows=-2 columns=5 ring=1 blocks=1", "direct rows=6 columns=30 ring=1 blocks=1",
        "direct rows=2 columns=5 ring=1 blocks=0", "direct rows=2 columns=5 ring=1 blocks=1 more=1",
        "direct rows=2x columns=5 ring=1 blocks=1", "portable rows=2 columns=5 ring=1 blocks=1"})
    EXPECT_FALSE(legal(text)) << text;
  const Problem halves = parse("n1c16h14w14k5bf16exact");
  EXPECT_FALSE(depthwise::legal(request_of(halves, GetParam()),
                                Tiling::parse("direct rows=2 columns=5 ring=0 blocks=1")));
}

INSTANTIATE_TEST_SUITE_P(, Direct, testing::Values(Isa::avx2, Isa::avx512),
                         [](const auto& info) { return std::string(name(info.param)); });

}  // namespace
}  // namespace replk::depthwise
