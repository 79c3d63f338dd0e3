#include "core/threads.hpp"

#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <chrono>
#include <cstdint>
#include <cstdlib>
#include <filesystem>
#include <functional>
#include <iterator>
#include <set>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

#include "core/cpu.hpp"

namespace replk::core {
namespace {

// A pool such as a user might bring: a thread for each share.
void pool_of_threads(int count, const std::function<void(int)>& body) {
  std::vector<std::thread> threads;
  for (int i = 1; i < count; i++) threads.emplace_back([&body, i] { body(i); });
  body(0);
  for (auto& t : threads) t.join();
}

struct NamedPool {
  const char* name;
  PoolRun run;
};

class ParallelFor : public testing::TestWithParam<NamedPool> {
 protected:
  void SetUp() override { set_thread_pool(GetParam().run); }
  void TearDown() override { set_thread_pool({}); }
};

TEST_P(ParallelFor, VisitsEveryIndexOnce) {
  for (std::int64_t count : {0, 1, 2, 3, 7, 64, 1001})
    for (int threads : {0, 1, 2, 3, 8}) {
      std::vector<std::atomic<int>> visits(count);
      parallel_for(count, threads, [&](std::int64_t i, int) { visits[i]++; });
      for (std::int64_t i = 0; i < count; i++) ASSERT_EQ(visits[i], 1) << i << " of " << count;
    }
}

TEST_P(ParallelFor, DealsContiguousSharesThatDoNotChange) {
  std::vector<int> first(100), second(100);
  parallel_for(100, 4, [&](std::int64_t i, int thread) { first[i] = thread; });
  parallel_for(100, 4, [&](std::int64_t i, int thread) { second[i] = thread; });
  EXPECT_EQ(first, second);
  for (int i = 0; i < 100; i++) EXPECT_EQ(first[i], i / 25) << i;
}

TEST_P(ParallelFor, UsesNoMoreThreadsThanIndices) {
  std::vector<int> threads(3, -1);
  parallel_for(3, 16, [&](std::int64_t i, int thread) { threads[i] = thread; });
  EXPECT_EQ(threads, (std::vector<int>{0, 1, 2}));
}

TEST_P(ParallelFor, RunsSeriallyInsideItself) {
  std::vector<std::set<std::thread::id>> inner(4);
  std::vector<int> effective(4);
  parallel_for(4, 4, [&](std::int64_t i, int) {
    effective[i] = effective_threads(8);
    parallel_for(16, 4, [&](std::int64_t, int thread) {
      inner[i].insert(std::this_thread::get_id());
      if (thread != 0) inner[i].insert({});
    });
  });
  for (const auto& ids : inner) EXPECT_EQ(ids.size(), 1u);
  EXPECT_EQ(effective, (std::vector<int>(4, 1)));
  EXPECT_EQ(effective_threads(8), 8) << "and is parallel again afterwards";
}

TEST_P(ParallelFor, ThrowsTheExceptionOfABody) {
  std::atomic<int> visits = 0;
  try {
    parallel_for(8, 4, [&](std::int64_t i, int) {
      visits++;
      if (i == 6) throw std::runtime_error("index 6");
    });
    FAIL() << "did not throw";
  } catch (const std::runtime_error& e) {
    EXPECT_STREQ(e.what(), "index 6");
  }
  EXPECT_GE(visits, 7) << "the other shares run to their end";
  std::atomic<int> after = 0;
  parallel_for(8, 4, [&](std::int64_t, int) { after++; });
  EXPECT_EQ(after, 8);
}

TEST_P(ParallelFor, ThrowsOneExceptionWhenAllBodiesThrow) {
  EXPECT_THROW(parallel_for(8, 8, [](std::int64_t, int) { throw std::logic_error("each"); }),
               std::logic_error);
  EXPECT_EQ(effective_threads(3), 3) << "the calling thread is outside again";
}

INSTANTIATE_TEST_SUITE_P(, ParallelFor,
                         testing::Values(NamedPool{"openmp", {}}, NamedPool{"user_pool", pool_of_threads}),
                         [](const auto& info) { return std::string(info.param.name); });

TEST(Threads, ZeroMeansTheCpusOfThisProcess) {
  if (!std::getenv("OMP_NUM_THREADS") && !std::getenv("OMP_THREAD_LIMIT")) {
    EXPECT_EQ(default_threads(), cpu().cores);
  }
  EXPECT_EQ(effective_threads(0), default_threads());
  EXPECT_EQ(effective_threads(5), 5);
}

TEST(Threads, TheUsersPoolIsAskedForEveryShare) {
  static int asked;
  asked = 0;
  set_thread_pool([](int count, const std::function<void(int)>& body) {
    asked = count;
    for (int i = count; i-- > 0;) body(i);  // one thread, in any order, is a pool as well
  });
  std::vector<int> visits(10, 0);
  parallel_for(10, 3, [&](std::int64_t i, int) { visits[i]++; });
  set_thread_pool({});
  EXPECT_EQ(asked, 3);
  EXPECT_EQ(visits, std::vector<int>(10, 1));
}

TEST(Threads, CallersOnSeveralThreadsDoNotMix) {
  std::vector<std::int64_t> sums(4, 0);
  std::vector<std::thread> callers;
  for (int c = 0; c < 4; c++)
    callers.emplace_back([&, c] {
      for (int round = 0; round < 50; round++) {
        std::vector<std::int64_t> values(64);
        parallel_for(64, 2, [&](std::int64_t i, int) { values[i] = i * c; });
        for (std::int64_t v : values) sums[c] += v;
      }
    });
  for (auto& t : callers) t.join();
  for (int c = 0; c < 4; c++) EXPECT_EQ(sums[c], 50 * 2016 * c);
}

#if !defined(__SANITIZE_THREAD__)  // where a call makes its threads anew
/// Of this process.
int threads_there() {
  const std::filesystem::directory_iterator tasks("/proc/self/task");
  return static_cast<int>(std::distance(begin(tasks), end(tasks)));
}

/// Layers of a network use the whole team and parts of it in turns.
TEST(Threads, ASmallerCallKeepsTheTeamForAWhile) {
  using namespace std::chrono;
  std::thread leader([] {  // with a team of its own
    const int before = threads_there();
    const auto call = [](int threads) { parallel_for(threads, threads, [](std::int64_t, int) {}); };
    bool in_time = false;
    for (int i = 0; i < 20 && !in_time; i++) {
      const auto start = steady_clock::now();
      call(6);
      call(2);
      in_time = steady_clock::now() - start < milliseconds(90);
    }
    if (!in_time) GTEST_SKIP() << "twenty pairs of calls took 90 ms each: the machine is too busy";
    std::this_thread::sleep_for(milliseconds(20));  // for threads that are about to end
    EXPECT_EQ(threads_there(), before + 5);
    std::this_thread::sleep_for(milliseconds(200));
    call(2);
    for (int i = 0; i < 500 && threads_there() > before + 1; i++)
      std::this_thread::sleep_for(milliseconds(10));
    EXPECT_EQ(threads_there(), before + 1) << "and not for ever";
  });
  leader.join();
}
#endif

TEST(Threads, AForkedChildRunsOnItsOneThread) {
  std::atomic<int> visits = 0;
  parallel_for(64, 4, [&](std::int64_t, int) { visits++; });  // the parent has a team, the child will not
  const pid_t child = fork();
  if (child == 0) {
    alarm(60);  // instead of hanging
    bool right = effective_threads(0) == 1 && effective_threads(8) == 1;
    parallel_for(64, 4, [&](std::int64_t, int thread) { visits += thread == 0; });
    set_thread_pool([&](int, const std::function<void(int)>&) { right = false; });
    parallel_for(64, 4, [&](std::int64_t, int) { visits++; });
    _exit(right && visits == 192 ? 0 : 1);
  }
  int status = -1;
  ASSERT_EQ(waitpid(child, &status, 0), child);
  EXPECT_EQ(status, 0);
  EXPECT_EQ(effective_threads(8), 8) << "the parent is what it was";
}

}  // namespace
}  // namespace replk::core
