// Sixteen processes write 500 records each into one cache and are killed at random.
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <chrono>
#include <random>
#include <thread>

#include "scratch.hpp"
#include "tuner/cache.hpp"

namespace replk::tuner {
namespace {

constexpr int kWriters = 16, kRecords = 500;

Record record(int writer, int n) {
  const Key key{"w" + std::to_string(writer) + "n" + std::to_string(n),
                {number("writer", writer), number("n", n)}};
  return {key.shape, key.json(), machine_json(),         "x a=1", 1e-3, 9,
          0.99,      false,      "2026-01-01T00:00:00Z", {},      {}};
}

/// A child that stores its records and sends a byte up the pipe for every one that the cache called stored.
pid_t start_writer(const std::string& path, int writer, int pipe, bool prunes) {
  const pid_t child = ::fork();
  if (child != 0) return child;
  Cache cache(path, {});
  for (int n = 0; n < kRecords; n++) {
    if (!cache.store(record(writer, n))) ::_exit(1);
    if (::write(pipe, "x", 1) != 1) ::_exit(2);
    if (prunes && n % 20 == 0) cache.prune([](const Record&) { return false; });
  }
  ::_exit(0);
}

/// Returns how many were killed before their end.
int storm(bool prunes, std::uint64_t seed) {
  test::Scratch scratch;
  const std::string path = scratch.path("tune.jsonl");
  std::mt19937_64 random(seed);
  pid_t children[kWriters];
  int pipes[kWriters][2];
  for (int w = 0; w < kWriters; w++) {
    EXPECT_EQ(::pipe(pipes[w]), 0);
    children[w] = start_writer(path, w, pipes[w][1], prunes && w % 4 == 0);
    ::close(pipes[w][1]);
  }
  int killed = 0, committed[kWriters] = {};
  for (int round = 0; round < 12; round++) {  // four live to their end
    std::this_thread::sleep_for(std::chrono::milliseconds(random() % 120));
    ::kill(children[round], SIGKILL);
  }
  for (int w = 0; w < kWriters; w++) {
    char byte;
    while (::read(pipes[w][0], &byte, 1) == 1) committed[w]++;
    ::close(pipes[w][0]);
    int status = 0;
    ::waitpid(children[w], &status, 0);
    killed += WIFSIGNALED(status);
    EXPECT_TRUE(w < 12 || (WIFEXITED(status) && WEXITSTATUS(status) == 0)) << "writer " << w;
  }

  Cache cache(path, {});
  EXPECT_TRUE(cache.faults().empty()) << cache.faults().front();
  int lost = 0;
  for (int w = 0; w < kWriters; w++) {
    for (int n = 0; n < committed[w]; n++) {
      const Record expected = record(w, n);
      const Key key{expected.shape, {number("writer", w), number("n", n)}};
      lost += cache.find(key).size() != 1;
    }
  }
  EXPECT_EQ(lost, 0);
  EXPECT_TRUE(cache.store(record(99, 0)));
  return killed;
}

TEST(CacheCrash, NoCommittedRecordIsLostAndNoneIsDamaged) {
  EXPECT_GT(storm(false, 1), 0);
}

TEST(CacheCrash, NorWhileTheFileIsCompacted) {
  EXPECT_GT(storm(true, 2), 0);
}

}  // namespace
}  // namespace replk::tuner
