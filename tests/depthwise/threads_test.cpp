// Plans on many threads, in a forked child, and the code that they share.
#include "core/threads.hpp"

#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <barrier>
#include <cstring>
#include <string>
#include <thread>
#include <vector>

#include "case.hpp"
#include "jit/x64/code.hpp"

namespace replk::depthwise {
namespace {

constexpr int many = 64;
const char* const algorithms[] = {"direct", "row-spectral", "spectral", "stripes", "portable"};

const char* shape_for(const std::string& algorithm) {
  return algorithm == "stripes" ? "n1c24h18w20k17x3,3x17" : "n1c24h18w20k13";
}

PlanOptions only(const std::string& algorithm, int threads) {
  PlanOptions options;
  options.algorithm = algorithm;
  options.threads = threads;
  return options;
}

void forget_all_code() {
  jit::set_code_cache_capacity(0);
  jit::set_code_cache_capacity(64 << 20);
}

class OnManyThreads : public testing::TestWithParam<const char*> {
 protected:
  void SetUp() override {
    if (GetParam() != std::string("portable") && !jit::code_allowed())
      GTEST_SKIP() << "this system forbids executable memory";
  }
};

TEST_P(OnManyThreads, OnePlanGivesTheSameBits) {
  const Case c(shape_for(GetParam()));
  const Plan plan(c.problem, c.weights, c.bias, only(GetParam(), 1));
  Storage expected(c.problem.output_type(), c.problem.output_elements());
  plan.run(c.tensors(expected));
  std::barrier together(many);
  std::atomic<std::int64_t> wrong = 0;
  std::vector<std::thread> threads;
  for (int t = 0; t < many; t++)
    threads.emplace_back([&] {
      Storage dst(c.problem.output_type(), c.problem.output_elements());
      together.arrive_and_wait();
      for (int round = 0; round < 4; round++) {
        std::memset(dst.data(), 0xff, dst.bytes());
        plan.run(c.tensors(dst));
        wrong += differing(dst, expected);
      }
    });
  for (std::thread& t : threads) t.join();
  EXPECT_EQ(wrong, 0);
}

TEST_P(OnManyThreads, PlanningOneShapeGeneratesItsCodeOnce) {
  if (GetParam() == std::string("portable")) GTEST_SKIP() << "portable needs no code";
  const Case c(shape_for(GetParam()));
  forget_all_code();
  const std::size_t before = jit::code_cache_statistics().misses;
  { const Plan alone(c.problem, c.weights, c.bias, only(GetParam(), 1)); }
  const std::size_t needed = jit::code_cache_statistics().misses - before;
  EXPECT_GT(needed, 0u);

  forget_all_code();
  EXPECT_EQ(jit::code_cache_statistics().entries, 0u);
  const auto from = jit::code_cache_statistics();
  std::barrier together(many);
  std::vector<std::thread> threads;
  for (int t = 0; t < many; t++)
    threads.emplace_back([&] {
      together.arrive_and_wait();
      const Plan plan(c.problem, c.weights, c.bias, only(GetParam(), 1));
    });
  for (std::thread& t : threads) t.join();
  const auto after = jit::code_cache_statistics();
  EXPECT_EQ(after.misses - from.misses, needed);
  EXPECT_GE(after.hits - from.hits, (many - 1) * needed);
}

TEST_P(OnManyThreads, AForkedChildGivesTheSameBits) {
  const Case c(shape_for(GetParam()));
  const Plan plan(c.problem, c.weights, c.bias, only(GetParam(), 4));
  Storage expected(c.problem.output_type(), c.problem.output_elements());
  plan.run(c.tensors(expected));  // on a team that the child will not have
  for (int i = 0; i < 10; i++) {
    const pid_t child = fork();
    if (child == 0) {
      alarm(60);  // instead of hanging
      Storage dst(c.problem.output_type(), c.problem.output_elements());
      plan.run(c.tensors(dst));
      std::int64_t wrong = differing(dst, expected);
      // Planned in the child, with the same tiling: another one may round otherwise, and which is chosen for
      // the child's threads depends on the machine.
      PlanOptions again;
      again.tiling = plan.tiling();
      again.threads = 4;
      wrong += differing(c.run(again), expected);
      _exit(wrong == 0 && core::effective_threads(4) == 1 ? 0 : 1);
    }
    int status = -1;
    ASSERT_EQ(waitpid(child, &status, 0), child);
    ASSERT_EQ(status, 0);
  }
}

INSTANTIATE_TEST_SUITE_P(, OnManyThreads, testing::ValuesIn(algorithms), [](const auto& info) {
  std::string name = info.param;
  std::erase(name, '-');
  return name;
});

TEST(GeneratedCode, IsBoundedWhateverIsPlanned) {
  if (!jit::code_allowed()) GTEST_SKIP() << "this system forbids executable memory";
  forget_all_code();
  const Case held("n1c8h12w12k9");
  const Plan plan(held.problem, held.weights, held.bias, only("row-spectral", 1));
  Storage expected(DataType::f32, held.problem.output_elements());
  plan.run(held.tensors(expected));
  const std::size_t in_use = jit::code_cache_statistics().bytes;
  constexpr std::size_t bound = 64 << 10;
  jit::set_code_cache_capacity(in_use + bound);
  std::size_t most = 0;
  const std::size_t misses = jit::code_cache_statistics().misses;
  const auto plan_size = [&](int size) {
    Problem p = held.problem;
    p.height = p.width = size;
    const Case c(p);
    c.run(only("row-spectral", 1));
    jit::set_code_cache_capacity(in_use + bound);  // what the plan held may go now
    most = std::max(most, jit::code_cache_statistics().bytes);
  };
  for (int size = 8; size < 24; size++) plan_size(size);
  const std::size_t generated = jit::code_cache_statistics().misses - misses;
  EXPECT_GT(generated, 10u);
  plan_size(8);
  EXPECT_GT(jit::code_cache_statistics().misses - misses, generated) << "the first one has gone meanwhile";
  EXPECT_LE(most, in_use + bound);
  Storage again(DataType::f32, held.problem.output_elements());
  plan.run(held.tensors(again));
  EXPECT_EQ(differing(again, expected), 0) << "what a plan holds stays";
  jit::set_code_cache_capacity(0);
  EXPECT_EQ(jit::code_cache_statistics().bytes, in_use);
  jit::set_code_cache_capacity(64 << 20);
}

}  // namespace
}  // namespace replk::depthwise
