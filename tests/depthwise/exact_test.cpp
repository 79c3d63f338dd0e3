// Class exact at length: 10,000 cases of shape, tiling, threads and instruction set, 0 differing bits.
#include <gtest/gtest.h>

#include <algorithm>

#include "core/cpu.hpp"
#include "depthwise/direct.hpp"
#include "jit/code.hpp"
#include "tests/depthwise/case.hpp"

namespace replk::depthwise {
namespace {

TEST(Exact, TenThousandCases) {
  if (core::cpu().hardware < Isa::avx2) GTEST_SKIP() << "this CPU has no avx2: nothing but portable runs";
  if (!jit::code_allowed()) GTEST_SKIP() << "this system forbids executable memory";
  int cases = 0;
  for (std::uint64_t seed = 10000; cases < 10000; seed++) {
    const Case c(random_problem(seed), seed);
    const Kernel geometry = merged_geometry(c.problem);
    const Storage expected = c.run(portable_options());
    std::mt19937_64 random(seed);
    for (Isa isa : {Isa::avx2, Isa::avx512}) {
      if (core::cpu().hardware < isa) continue;
      const auto candidates = direct_algorithm().candidates(c.problem, geometry, isa, 1);
      for (std::size_t i = 0; i < std::min<std::size_t>(candidates.size(), 8); i++, cases++) {
        PlanOptions options;
        options.threads = 1 + static_cast<int>(random() % 4);
        options.tiling = candidates[random() % candidates.size()].tiling;
        options.isa = isa;
        ASSERT_EQ(differing(expected, c.run(options)), 0)
            << to_string(c.problem) << ": " << options.tiling->to_string() << " on " << options.threads
            << " threads, " << name(isa);
      }
    }
  }
}

}  // namespace
}  // namespace replk::depthwise
