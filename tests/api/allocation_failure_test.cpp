// Every allocation that a depthwise plan makes in create and run, made to fail in turn: an error comes back
// or the right result, nothing leaks, nothing crashes, and the next call works.
#include <gtest/gtest.h>
#include <unistd.h>

#include <cstdio>
#include <cstring>
#include <filesystem>
#include <string>
#include <thread>
#include <vector>

#include "jit/x64/code.hpp"
#include "replk/replk.h"
#include "tests/support/failing_allocations.hpp"
#include "tuner/cache.hpp"
#include "tuner/key.hpp"
#include "tuner/record.hpp"

namespace replk {
namespace {

namespace allocations = test::allocations;

struct Outcome {
  replk_status create = REPLK_INTERNAL, run = REPLK_INTERNAL;
  allocations::Counted counted;
  std::vector<float> dst;
  std::string message;
};

struct Given {
  const char* shape;
  const char* algorithm;
};

constexpr std::int64_t record = -1;
constexpr std::size_t all_of_them =
    1200;  // more calls than these are represented by one for each stack of callers

/// Create, run with the thread's own workspace, destroy, on a thread of its own: that has no workspace yet.
Outcome attempt(const Given& given, std::int64_t fail_at, bool on) {
  static const std::vector<float> weights(8 * 31 * 31, 0.01f), bias(8, 1.0f), src(8 * 32 * 32, 0.5f);
  const float* pointers[] = {weights.data(), weights.data()};
  Outcome outcome;
  outcome.dst.assign(8 * 32 * 32, -1.0f);
  std::thread([&] {
    replk_depthwise_options options = replk_depthwise_options_default();
    options.threads = 1;
    options.algorithm = given.algorithm;
    replk_depthwise* plan = nullptr;
    if (fail_at == record)
      allocations::start_recording();
    else
      allocations::start(fail_at, on);
    outcome.create = replk_depthwise_create_from_shape(given.shape, pointers, bias.data(), &options, &plan);
    if (outcome.create == REPLK_OK)
      outcome.run = replk_depthwise_run(plan, src.data(), outcome.dst.data(), nullptr, nullptr, 0);
    outcome.counted = allocations::stop();
    if (outcome.create != REPLK_OK || outcome.run != REPLK_OK) outcome.message = replk_last_error();
    EXPECT_EQ(plan != nullptr, outcome.create == REPLK_OK);
    replk_depthwise_destroy(plan);
  }).join();
  jit::set_code_cache_capacity(0);  // the next one generates its code again
  jit::set_code_cache_capacity(64 << 20);
  return outcome;
}

class AllocationFailure : public testing::TestWithParam<Given> {
 protected:
  void SetUp() override {
    if (!allocations::can_fail) GTEST_SKIP() << "a sanitizer owns malloc here";
  }
};

TEST_P(AllocationFailure, EachGivesAnErrorAndLeavesNothing) {
  const Given given = GetParam();
  for (int i = 0; i < 2; i++) attempt(given, 0, false);  // what is kept for the process is there now
  const Outcome whole = attempt(given, record, false);
  ASSERT_EQ(whole.run, REPLK_OK) << whole.message;
  ASSERT_GT(whole.counted.ours, 10);
  const std::vector<std::int64_t> calls = allocations::worth_failing(all_of_them);
  for (const bool on : {false, true}) {
    int errors = 0, survived = 0;
    std::int64_t before = allocations::live();
    for (std::size_t i = 0; i < calls.size(); i += on && calls.size() > 200 ? 8 : 1) {
      const std::int64_t n = calls[i];
      SCOPED_TRACE(testing::Message()
                   << given.shape << ", allocation " << n << (on ? " and all behind it" : ""));
      const Outcome outcome = attempt(given, n, on);
      ASSERT_TRUE(outcome.counted.failed);
      if (allocations::live() != before) {  // what the process keeps comes once, a leak again
        before = allocations::live();
        attempt(given, n, on);
        ASSERT_LE(allocations::live(), before) << "a leak";
        before = allocations::live();
      }
      if (outcome.create == REPLK_OK && outcome.run == REPLK_OK) {
        survived++;
        ASSERT_EQ(outcome.dst, whole.dst);
        continue;
      }
      errors++;
      const replk_status status = outcome.create == REPLK_OK ? outcome.run : outcome.create;
      ASSERT_EQ(status, REPLK_OUT_OF_MEMORY) << outcome.message;
      ASSERT_NE(outcome.message, "");
      if (i % 16 == 0) {
        const Outcome next = attempt(given, 0, false);
        ASSERT_EQ(next.run, REPLK_OK) << next.message;
        ASSERT_EQ(next.dst, whole.dst);
      }
    }
    std::printf("%s %s: %zu of %lld calls failed%s: %d errors, %d right results in spite of it\n",
                given.algorithm ? given.algorithm : "chosen", given.shape, calls.size(),
                static_cast<long long>(whole.counted.ours), on ? " with all behind them" : "", errors,
                survived);
  }
  const Outcome last = attempt(given, 0, false);
  EXPECT_EQ(last.dst, whole.dst);
}

INSTANTIATE_TEST_SUITE_P(
    , AllocationFailure,
    testing::Values(Given{"n1c8h12w13k7", "portable"}, Given{"n1c8h12w13k7", "direct"},
                    Given{"n1c8h14w13k9", "row-spectral"}, Given{"n1c8h14w13k9", "spectral"},
                    Given{"n1c8h14w16k13x3,3x13", "stripes"}, Given{"n1c8h12w13k7nchw", "row-spectral"},
                    Given{"n1c8h12w13k3", nullptr}),
    [](const auto& info) {
      const std::string algorithm = info.param.algorithm ? info.param.algorithm : "chosen";
      const bool generates_much =
          algorithm == "row-spectral" || algorithm == "spectral" || algorithm == "stripes";
      return (generates_much ? "Spectral" : "Other") + std::to_string(info.index);
    });

TEST(TuneCacheAllocationFailure, CostsARecordAtMost) {
  if (!allocations::can_fail) GTEST_SKIP() << "a sanitizer owns malloc here";
  const std::string path =
      std::filesystem::temp_directory_path() / ("replk_allocations_" + std::to_string(getpid()) + ".jsonl");
  tuner::Record record;
  const tuner::Key key{"a shape", {tuner::word("op", "none"), tuner::number("height", 14)}};
  tuner::Key near = key;
  near.fields[1] = tuner::number("height", 15);
  record.shape = "a shape";
  record.key = key.json();
  record.machine = tuner::machine_json();
  record.pick = "this one";
  record.date = "2026-01-01T00:00:00Z";
  record.measured = {{"that one", 1.0}, {"another", 2.0}};
  const auto round = [&](std::int64_t n) {
    std::filesystem::remove(path);
    allocations::start(n);
    {
      tuner::Cache cache(path, {});
      cache.store(record);
      cache.find(key);
      cache.nearest(near, 3);
    }
    return allocations::stop();
  };
  round(0);
  int failures = 0;
  for (std::int64_t n = 1;; n++) {
    allocations::Counted counted;
    try {
      counted = round(n);
    } catch (const std::bad_alloc&) {
      counted = allocations::stop();
    }
    if (!counted.failed) break;
    failures++;
  }
  EXPECT_GT(failures, 50);
  std::filesystem::remove(path);
}

}  // namespace
}  // namespace replk
