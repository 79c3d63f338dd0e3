// The tuner from outside: its mode and budget, and what a caller sees where its cache cannot be used.
#include <gtest/gtest.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <csignal>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <limits>
#include <string>
#include <thread>
#include <vector>

#include "../tuner/scratch.hpp"
#include "replk/replk.hpp"
#include "tuner/cache.hpp"
#include "tuner/race.hpp"

namespace {

using replk::tuner::test::Scratch;

/// Runs body in a child process, since environment, log callback and cache are the whole process's; its exit
/// code is that of the first check that failed, 0 for none.
template <class Body>
int in_child(Body body) {
  const pid_t child = ::fork();
  if (child == 0) ::_exit(body());
  int status = 0;
  ::waitpid(child, &status, 0);
  return WIFEXITED(status) ? WEXITSTATUS(status) : 100;
}

/// A plan of a 5x5 box filter on one thread; its source where its outputs are right, else "wrong".
std::string planned(int channels) {
  const std::string shape = "n1c" + std::to_string(channels) + "h6w7k5";
  const std::vector<float> weights(25 * channels, 1.0f), src(42 * channels, 1.0f);
  std::vector<float> dst(src.size(), -1.0f);
  const replk::Depthwise plan(shape, {weights.data()}, nullptr,
                              {.threads = 1, .algorithm = {}, .tiling = {}});
  plan.run(src.data(), dst.data());
  for (int y = 0; y < 6; y++)
    for (int x = 0; x < 7; x++)
      for (int c = 0; c < channels; c++) {
        const auto met = [](int at, int size) { return std::min(at, 2) + 1 + std::min(size - 1 - at, 2); };
        const float expected = static_cast<float>(met(y, 6) * met(x, 7));
        if (std::abs(dst[(y * 7 + x) * channels + c] - expected) > 1e-4f) return "wrong";
      }
  return plan.source();
}

TEST(Tuning, IsSetAndTold) {
  const replk::Tuning before = replk::tuning();
  replk::set_tuning({REPLK_TUNING_NOW, 0.25});
  EXPECT_EQ(replk::tuning().mode, REPLK_TUNING_NOW);
  EXPECT_EQ(replk::tuning().budget_seconds, 0.25);
  replk::set_tuning({});
  EXPECT_EQ(replk::tuning().mode, REPLK_TUNING_CACHED);
  EXPECT_EQ(replk::tuning().budget_seconds, 4);

  const auto refused = [](auto change, const char* words) {
    replk_tuning t = replk_tuning_default();
    change(t);
    EXPECT_EQ(replk_set_tuning(&t), REPLK_INVALID_ARGUMENT) << words;
    EXPECT_NE(std::string(replk_last_error()).find(words), std::string::npos) << replk_last_error();
  };
  refused([](replk_tuning& t) { t.mode = static_cast<replk_tuning_mode>(3); }, "mode is 3; allowed: 0 to 2");
  refused([](replk_tuning& t) { t.mode = static_cast<replk_tuning_mode>(-1); }, "mode is -1");
  refused([](replk_tuning& t) { t.budget_seconds = -1; }, "budget_seconds is -1; allowed: 0 to 86400");
  refused([](replk_tuning& t) { t.budget_seconds = 1e9; }, "budget_seconds");
  refused([](replk_tuning& t) { t.budget_seconds = std::numeric_limits<double>::quiet_NaN(); }, "nan");
  refused([](replk_tuning& t) { t.struct_size = 8; }, "struct_size is 8");
  EXPECT_EQ(replk_set_tuning(nullptr), REPLK_INVALID_ARGUMENT);
  EXPECT_EQ(replk_get_tuning(nullptr), REPLK_INVALID_ARGUMENT);
  EXPECT_EQ(replk::tuning().mode, REPLK_TUNING_CACHED) << "what was refused changed nothing";
  replk::set_tuning(before);
}

// C, C++ and a process that sets nothing go by one budget.
TEST(Tuning, HasOneDefault) {
  const replk_tuning c = replk_tuning_default();
  const replk::Tuning cpp, fresh = replk::tuning();
  EXPECT_EQ(c.mode, REPLK_TUNING_CACHED);
  EXPECT_EQ(cpp.mode, c.mode);
  EXPECT_EQ(fresh.mode, c.mode);
  EXPECT_EQ(c.budget_seconds, replk::tuner::kBudgetSeconds);
  EXPECT_EQ(cpp.budget_seconds, c.budget_seconds);
  EXPECT_EQ(fresh.budget_seconds, c.budget_seconds);
}

TEST(Tuning, IsChangedAsAWholeWhileOthersRead) {
  const replk::Tuning before = replk::tuning();
  std::vector<std::thread> threads;
  for (int t = 0; t < 4; t++)
    threads.emplace_back([t] {
      for (int i = 0; i < 1000; i++) {
        const bool off = (i + t) % 2 == 0;
        replk::set_tuning({off ? REPLK_TUNING_OFF : REPLK_TUNING_CACHED, off ? 1.0 : 2.0});
        const replk::Tuning now = replk::tuning();
        EXPECT_EQ(now.mode == REPLK_TUNING_OFF, now.budget_seconds == 1);
      }
    });
  for (std::thread& thread : threads) thread.join();
  replk::set_tuning(before);
}

TEST(Tuning, TheModeDecidesWhereAPlanComesFrom) {
  Scratch scratch;
  EXPECT_EQ(0, in_child([&] {
              ::setenv("REPLK_CACHE_DIR", scratch.path().c_str(), 1);
              const auto with = [](replk_tuning_mode mode, int channels) {
                replk::set_tuning({mode, 0.02});
                return planned(channels);
              };
              if (with(REPLK_TUNING_CACHED, 24) != "analytic") return 1;
              if (with(REPLK_TUNING_NOW, 24) != "measured") return 2;
              if (with(REPLK_TUNING_CACHED, 24) != "cache") return 3;
              if (with(REPLK_TUNING_NOW, 24) != "cache") return 4;
              if (with(REPLK_TUNING_OFF, 24) != "analytic") return 5;
              if (with(REPLK_TUNING_CACHED, 32) != "near(n1c24h6w7k5)") return 6;
              return 0;
            }));
}

// What may be wrong with the cache's place, as a user meets it: plans are right and measured all the same,
// and one warning says what is the matter.

/// The first check that failed of two plans made where `prepare` has spoilt things; `home` is the user's.
template <class Prepare>
int spoilt(const std::string& home, Prepare prepare) {
  return in_child([&] {
    ::unsetenv("REPLK_CACHE_DIR");
    ::unsetenv("XDG_CACHE_HOME");
    ::setenv("HOME", home.c_str(), 1);
    if (!prepare()) return 10;
    static std::vector<std::string> warnings;
    replk_set_log_callback(
        [](replk_log_level level, const char* message, void*) {
          if (level == REPLK_LOG_WARNING) warnings.push_back(message);
        },
        nullptr);
    replk::set_tuning({REPLK_TUNING_NOW, 0.02});
    for (const int channels : {24, 9, 24}) {
      const std::string source = planned(channels);
      if (source != "measured" && source != "cache") return 1;
    }
    for (const std::string& warning : warnings) std::fprintf(stderr, "  %s\n", warning.c_str());
    if (warnings.size() != 1) return 2;
    return warnings[0].starts_with("tune cache: ") ? 0 : 3;
  });
}

class Spoilt : public ::testing::Test {
 private:
  Scratch scratch_;

 protected:
  std::string home = scratch_.path("home"), file = home + "/.cache/libreplk_cpu/tune.jsonl";
  void SetUp() override { ::mkdir(home.c_str(), 0755); }
  void write(const std::string& text) {
    std::filesystem::create_directories(std::filesystem::path(file).parent_path());
    std::ofstream(file, std::ios::binary) << text;
  }
};

bool always() {
  return true;
}

TEST_F(Spoilt, AReadOnlyHome) {
  ::chmod(std::filesystem::path(home).parent_path().c_str(), 0755);
  ::chmod(home.c_str(), 0555);
  EXPECT_EQ(spoilt(home, [] { return ::geteuid() != 0 || ::setuid(65534) == 0; }), 0)
      << "root may write anywhere";
  EXPECT_TRUE(std::filesystem::is_empty(home));
  ::chmod(home.c_str(), 0755);
}

TEST_F(Spoilt, AFullDisk) {
  EXPECT_EQ(spoilt(home,
                   [] {  // the first line does not fit: part of the write succeeds, the rest fails
                     const rlimit limit{100, 100};
                     ::signal(SIGXFSZ, SIG_IGN);
                     return ::setrlimit(RLIMIT_FSIZE, &limit) == 0;
                   }),
            0);
  EXPECT_EQ(std::filesystem::file_size(file), 0u);
}

TEST_F(Spoilt, NoHome) {
  EXPECT_EQ(spoilt(home, [] { return ::unsetenv("HOME") == 0; }), 0);
}

TEST_F(Spoilt, ADirectoryWhereTheFileShouldBe) {
  std::filesystem::create_directories(file);
  EXPECT_EQ(spoilt(home, always), 0);
}

TEST_F(Spoilt, AFileFromAnotherMachine) {
  replk::tuner::Record record;
  record.shape = "n1c24h6w7k5";
  record.key = "{\"op\":\"depthwise\"}";
  record.machine = "{\"vendor\":\"Other\"}";
  record.pick = "portable";
  record.date = "2026-01-01T00:00:00Z";
  write(replk::tuner::to_text({record}));
  EXPECT_EQ(spoilt(home, always), 0);
}

TEST_F(Spoilt, AFileOfANewerVersion) {
  std::string line = "{\"replk_tune_cache\":2";
  std::uint64_t hash = 0xcbf29ce484222325u;
  for (unsigned char c : line) hash = (hash ^ c) * 0x100000001b3u;
  char check[64];
  std::snprintf(check, sizeof check, ",\"check\":\"%016lx\"}\n", static_cast<unsigned long>(hash));
  write(line + check);
  EXPECT_EQ(spoilt(home, always), 0);
  EXPECT_EQ(std::filesystem::file_size(file), (line + check).size()) << "and it is left as it is";
}

TEST_F(Spoilt, ADamagedFile) {
  write("rubbish\n\n{\"v\":1}\n");
  EXPECT_EQ(spoilt(home, always), 0);
}

}  // namespace
