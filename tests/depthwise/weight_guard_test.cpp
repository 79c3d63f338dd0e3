// A sweep of the weight gradient in which nothing can hide (guard_test.cpp): all tensors and the workspace
// lie between inaccessible pages at every alignment, with NaNs around them and in all registers.
#include <gtest/gtest.h>

#include <algorithm>
#include <numeric>

#include "core/memory.hpp"
#include "tests/depthwise/gradient_case.hpp"
#include "tests/guarded.hpp"

namespace replk::depthwise {
namespace {

using test::Guarded;
using test::Side;

void run(const GradientCase& c, const PlanOptions& options, Side side, std::size_t gap) {
  const Problem& p = c.problem;
  const std::size_t size = size_of(p.type);
  test::guard_heap(side);
  Problem planned = p;  // the batch is the run's
  planned.batch = 1 + gap % 3;
  const WeightGradient gradient(planned, options);
  const Guarded src(c.src.bytes(), side, gap * size), dy(c.dy.bytes(), side, (gap + 5) % 16 * size);
  std::memcpy(src.as(), c.src.data(), c.src.bytes());
  std::memcpy(dy.as(), c.dy.data(), c.dy.bytes());
  std::vector<std::unique_ptr<Guarded>> dweights;
  std::vector<float*> pointers;
  for (const Branch& b : p.branches) {
    dweights.push_back(std::make_unique<Guarded>(4 * static_cast<std::size_t>(p.channels) * b.taps(), side,
                                                 4 * ((gap + 3) % 16)));
    pointers.push_back(dweights.back()->as<float>());
  }
  const Guarded dbias(4 * static_cast<std::size_t>(p.channels), side, 4 * gap);
  const Guarded workspace(
      core::round_up(std::max<std::size_t>(gradient.workspace_bytes(), 1), core::alignment), side);
  test::poison();
  gradient.run({src.as(), dy.as(), pointers, dbias.as<float>()}, false, {p.batch, workspace.as()});

  std::vector<int> all(static_cast<std::size_t>(p.channels));
  std::iota(all.begin(), all.end(), 0);
  EXPECT_LE(weight_error(p, weight_reference(p, c.src.data(), c.dy.data(), all), pointers, dbias.as<float>()),
            2e-6);
  for (const auto& each : dweights) EXPECT_TRUE(each->intact()) << "around dweights";
  EXPECT_TRUE(dbias.intact()) << "around dbias";
  EXPECT_TRUE(workspace.intact()) << "around the workspace";
  EXPECT_EQ(std::memcmp(src.as(), c.src.data(), c.src.bytes()), 0) << "src changed";
  EXPECT_EQ(std::memcmp(dy.as(), c.dy.data(), c.dy.bytes()), 0) << "dy changed";
}

TEST(WeightGuard, SeededShapes) {
  int runs = 0;
  for (unsigned seed = 0; seed < 200; seed++) {
    const Problem p = plain(random_problem_with(seed * 53 % 128, seed + 9000, 14, 26), Numerics::fast);
    const GradientCase c(p, seed);
    for (const char* algorithm : {"portable", "direct", "row-spectral"})
      for (const Isa isa : generated_isas()) {
        const auto options = some_tiling(algorithm, p, isa, 1 + static_cast<int>(seed % 2), seed / 3);
        if (!options) continue;
        SCOPED_TRACE(fmt::format("{} {} {}", to_string(p), name(isa), options->tiling->to_string()));
        run(c, *options, seed % 2 ? Side::begin : Side::end, seed % 16);
        if (testing::Test::HasFailure()) return;
        runs++;
      }
  }
  EXPECT_GT(runs, 500);
}

}  // namespace
}  // namespace replk::depthwise
