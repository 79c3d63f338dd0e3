// Class exact at length: 10,000 cases of shape, tiling and threads for each instruction set, 0 differing
// bits.
#include <gtest/gtest.h>

#include <algorithm>
#include <cstdio>
#include <map>
#include <string>
#include <tuple>

#include "core/cpu.hpp"
#include "depthwise/direct/direct.hpp"
#include "jit/x64/code.hpp"
#include "tests/depthwise/case.hpp"

namespace replk::depthwise {
namespace {

constexpr int parts = 10, cases_a_part = 1000;
constexpr int thread_counts[] = {1, 2, 3, 8};

/// A tenth for one instruction set, so that the emulator can take one.
class Exact : public testing::TestWithParam<std::tuple<Isa, int>> {};

TEST_P(Exact, ThousandCases) {
  const auto [isa, part] = GetParam();
  if (core::cpu().hardware < isa) GTEST_SKIP() << "this CPU has no " << name(isa);
  if (!jit::code_allowed()) GTEST_SKIP() << "this system forbids executable memory";
  std::map<int, int> cases_on;  // by threads
  int cases = 0, problems = 0;
  for (std::uint64_t seed = 10000 + 1000000 * static_cast<std::uint64_t>(part); cases < cases_a_part;
       seed++) {
    const Case c(random_problem(seed), seed);
    const auto candidates = direct_algorithm().candidates(request_of(c.problem, isa));
    if (candidates.empty()) continue;  // no tap meets the map
    problems++;
    const Storage expected = c.run(portable_options());
    std::mt19937_64 random(seed);
    for (int i = 0; i < 8 && cases < cases_a_part; i++, cases++) {
      PlanOptions options;
      options.threads = thread_counts[i % std::size(thread_counts)];
      options.tiling = candidates[random() % candidates.size()].tiling;
      options.isa = isa;
      cases_on[options.threads]++;
      ASSERT_EQ(differing(expected, c.run(options)), 0)
          << to_string(c.problem) << ": " << options.tiling->to_string() << " on " << options.threads
          << " threads, " << name(isa);
    }
  }
  std::printf("%s: %d cases of %d problems, 0 differing bits (on", name(isa).data(), cases, problems);
  for (const auto& [threads, count] : cases_on) std::printf(" %d threads: %d;", threads, count);
  std::printf(")\n");
  for (const int threads : thread_counts) EXPECT_GE(cases_on[threads], cases_a_part / 5);
}

INSTANTIATE_TEST_SUITE_P(, Exact,
                         testing::Combine(testing::Values(Isa::avx2, Isa::avx512), testing::Range(0, parts)),
                         [](const auto& info) {
                           return std::string(name(std::get<0>(info.param))) + "_" +
                                  std::to_string(std::get<1>(info.param));
                         });

}  // namespace
}  // namespace replk::depthwise
