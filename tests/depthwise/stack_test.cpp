// A run takes at most 64 KiB of its caller's stack: threads of hosts have small ones.
#include "tests/support/stack.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <functional>
#include <string>
#include <vector>

#include "case.hpp"
#include "core/threads.hpp"
#include "depthwise/choose/choice.hpp"

namespace replk::depthwise {
namespace {

constexpr std::size_t limit = std::size_t{64} << 10;

/// All shares of a run on the calling thread, as a pool may do it.
class OnOneThread : public testing::Test {
 protected:
  void SetUp() override {
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
    GTEST_SKIP() << "a sanitizer's frames are larger";
#endif
    core::set_thread_pool([](int count, const std::function<void(int)>& body) {
      for (int i = 0; i < count; i++) body(i);
    });
  }
  void TearDown() override {
    core::set_thread_pool({});
  }

  static void expect_small(const Case& c, const Tiling& tiling, Isa isa, int threads) {
    PlanOptions options;
    options.tiling = tiling;
    options.isa = isa;
    options.threads = threads;
    const Plan plan(c.problem, c.weights, c.bias, options);
    core::Buffer<std::byte> workspace(std::max<std::size_t>(plan.workspace_bytes(), 1));
    Storage dst(c.problem.output_type(), c.problem.output_elements());
    const std::size_t used = test::stack_of([&] { plan.run(c.tensors(dst), workspace.data()); });
    EXPECT_GT(used, 100u);
    EXPECT_LE(used, limit) << to_string(c.problem) << ": " << tiling.to_string() << ", " << name(isa);
  }
};

std::vector<Isa> isas() {
  std::vector<Isa> all{isa_of(plan_features({}))};
  if (all[0] == Isa::avx512) all.push_back(Isa::avx2);
  return all;
}

TEST_F(OnOneThread, TheBestOfEveryAlgorithm) {
  for (const char* shape :
       {"n1c20h7w7k3", "n1c20h28w28k13+relu+residual", "n1c16h56w56k31nchw", "n1c16h96w96k63",
        "n1c20h60w60k51x5,5x51,5x5", "n1c16h56w56k31bf16+gelu", "n1c16h200w100k63", "n1c16h64w64k31s2"}) {
    const Case c(shape);
    for (const Isa isa : isas())
      for (const Algorithm* algorithm : algorithms())
        for (const Candidate& candidate : algorithm->candidates(request_of(c.problem, isa), 2))
          for (const int threads : {1, 4}) expect_small(c, candidate.tiling, isa, threads);
  }
}

// What a record of a cache or a caller may ask for, though no candidate does.
TEST_F(OnOneThread, TheLargestThatIsLegal) {
  if (isa_of(plan_features({})) == Isa::portable) GTEST_SKIP() << "no generated code on this machine";
  struct Large {
    const char *shape, *tiling;
  };
  for (const Large& large :
       {Large{"n1c16h20w256k61",
              "row-spectral n=319 factors=11x29 axis=w rows=28 karatsuba=0 gauss=1 blocks=1"},
        Large{"n1c16h256w20k3x7",
              "row-spectral n=30 factors=5x6 axis=w rows=28 karatsuba=3 gauss=1 blocks=1"},
        Large{"n1c16h96w20k63", "spectral n=60 factors=6x10 axis=w columns=158 column-factors=79x2 blocks=1"},
        Large{"n1c16h96w96k63",
              "spectral n=160 factors=10x16 axis=w columns=160 column-factors=10x16 blocks=1"},
        Large{"n1c16h96w96k63",
              "spectral n=160 factors=10x16 axis=w columns=160 column-factors=5x32 blocks=1"},
        Large{"n1c16h256w20k63",
              "row-spectral n=60 factors=6x10 axis=w rows=16 karatsuba=3 gauss=1 blocks=1"},
        Large{"n1c16h256w20k7", "row-spectral n=30 factors=5x6 axis=w rows=16 karatsuba=3 gauss=1 blocks=1"},
        Large{"n1c16h3000w20k7", "row-spectral n=30 factors=5x6 axis=w rows=16 karatsuba=0 gauss=1 blocks=1"},
        Large{"n1c16h20w256k63",
              "row-spectral n=320 factors=16x20 axis=w rows=16 karatsuba=0 gauss=1 blocks=1"}}) {
    const Case c(large.shape);
    const Tiling tiling = Tiling::parse(large.tiling);
    for (const Isa isa : isas()) {
      if (isa == Isa::avx2 && tiling.number("rows", 0) > 14) continue;
      ASSERT_TRUE(legal(request_of(c.problem, isa), tiling)) << large.tiling;
      expect_small(c, tiling, isa, 1);
    }
  }
}

TEST(Stack, SpillsThatWouldNotFitAreIllegal) {
  if (isa_of(plan_features({})) == Isa::portable) GTEST_SKIP() << "no generated code on this machine";
  const auto fits = [](const char* shape, const char* tiling) {
    return legal({parse(shape), Pass::forward, plan_features({}), 1}, Tiling::parse(tiling));
  };
  const char* const split = "row-spectral n=30 factors=5x6 axis=w rows=8 karatsuba=3 gauss=1 blocks=1";
  EXPECT_TRUE(fits("n1c16h256w20k7", split));
  EXPECT_FALSE(fits("n1c16h257w20k7", split));
  EXPECT_FALSE(
      fits("n1c16h256w20k7", "row-spectral n=30 factors=5x6 axis=w rows=8 karatsuba=1 gauss=0 blocks=1"));
}

}  // namespace
}  // namespace replk::depthwise
