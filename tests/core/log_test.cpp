#include "core/log.hpp"

#include <gtest/gtest.h>

#include <atomic>
#include <cstdlib>
#include <string>
#include <thread>
#include <utility>
#include <vector>

namespace replk::core {
namespace {

using Lines = std::vector<std::pair<LogLevel, std::string>>;

void record(LogLevel level, const char* message, void* user) {
  static_cast<Lines*>(user)->emplace_back(level, message);
}

class Log : public testing::Test {
 protected:
  void SetUp() override { set_log_callback(record, &lines); }
  void TearDown() override { set_log_callback(nullptr, nullptr); }
  Lines lines;
};

TEST_F(Log, FormatsAndHandsOverLevelMessageAndUser) {
  log(LogLevel::info, "kernel {}x{}", 31, 5);
  EXPECT_EQ(lines, (Lines{{LogLevel::info, "kernel 31x5"}}));
}

TEST_F(Log, IsSilentWithoutACallback) {
  set_log_callback(nullptr, nullptr);
  EXPECT_FALSE(log_enabled(LogLevel::warning));
  testing::internal::CaptureStderr();
  testing::internal::CaptureStdout();
  log(LogLevel::warning, "nobody listens");
  EXPECT_EQ(testing::internal::GetCapturedStderr(), "");
  EXPECT_EQ(testing::internal::GetCapturedStdout(), "");
  EXPECT_TRUE(lines.empty());
}

TEST_F(Log, WarnsOnceAKey) {
  for (int i = 0; i < 3; i++) warn_once("log_test/a", "first");
  warn_once("log_test/b", "second");
  EXPECT_EQ(lines, (Lines{{LogLevel::warning, "first"}, {LogLevel::warning, "second"}}));
}

TEST_F(Log, WarnsOnceHoweverManyThreadsDo) {
  static std::atomic<int> count;
  count = 0;
  set_log_callback([](LogLevel, const char*, void*) { count++; }, nullptr);
  std::vector<std::thread> threads;
  for (int i = 0; i < 8; i++) threads.emplace_back([] { warn_once("log_test/threads", "told"); });
  for (auto& t : threads) t.join();
  EXPECT_EQ(count, 1);
}

TEST_F(Log, ACallbackMayLogAndReplaceItself) {
  static Lines told;
  told.clear();
  set_log_callback(
      [](LogLevel, const char* message, void*) {
        set_log_callback(record, &told);
        log(LogLevel::debug, "from within: {}", message);
      },
      nullptr);
  log(LogLevel::warning, "outer");
  EXPECT_EQ(told, (Lines{{LogLevel::debug, "from within: outer"}}));
}

// REPLK_VERBOSE is read once a process: a death test in its thread-safe style is a process of its own.
void exit_after_logging(const char* verbose) {
  setenv("REPLK_VERBOSE", verbose, 1);
  log(LogLevel::warning, "a warning");
  log(LogLevel::info, "a fact");
  log(LogLevel::debug, "a detail");
  std::exit(0);
}

TEST(ReplkVerbose, WritesToStandardError) {
  testing::GTEST_FLAG(death_test_style) = "threadsafe";
  const auto done = testing::ExitedWithCode(0);
  EXPECT_EXIT(exit_after_logging("0"), done, "^$");
  EXPECT_EXIT(exit_after_logging("1"), done, "^replk warning: a warning\nreplk info: a fact\n$");
  EXPECT_EXIT(exit_after_logging("2"), done, "replk info: a fact\nreplk debug: a detail\n$");
  unsetenv("REPLK_VERBOSE");
}

}  // namespace
}  // namespace replk::core
