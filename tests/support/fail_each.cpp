#include "tests/support/fail_each.hpp"

#include <gtest/gtest.h>

#include <cstdio>
#include <new>
#include <thread>

#include "core/error.hpp"
#include "jit/x64/code.hpp"
#include "tests/support/failing_allocations.hpp"

namespace replk::test {
namespace {

enum class End { right, out_of_memory, another_error };

struct Outcome {
  End end = End::another_error;
  std::string message;
  std::vector<float> results;
  allocations::Counted counted;
};

Outcome attempt(const Work& work, const std::function<void()>& start) {
  Outcome outcome;
  std::thread([&] {
    try {
      outcome.results = work(start);
      outcome.counted = allocations::stop();
      outcome.end = End::right;
    } catch (const std::bad_alloc&) {
      outcome.counted = allocations::stop();
      outcome.end = End::out_of_memory;
    } catch (const core::Error& error) {
      outcome.counted = allocations::stop();
      outcome.end = error.status() == core::Status::out_of_memory ? End::out_of_memory : End::another_error;
      outcome.message = error.what();
    } catch (const std::exception& error) {
      outcome.counted = allocations::stop();
      outcome.message = error.what();
    }
  }).join();
  jit::set_code_cache_capacity(0);
  jit::set_code_cache_capacity(64 << 20);
  return outcome;
}

}  // namespace

void fail_each_place(const std::string& name, const Work& work) {
  const auto normally = [] { allocations::start(0); };
  for (int i = 0; i < 2; i++) attempt(work, normally);  // what is kept for the process is there now
  const Outcome whole = attempt(work, [] { allocations::start_recording(); });
  ASSERT_EQ(whole.end, End::right) << whole.message;
  ASSERT_FALSE(whole.results.empty());
  ASSERT_GT(whole.counted.ours, 10);
  const std::vector<std::int64_t> chosen = allocations::worth_failing(0);

  int errors = 0, survived = 0;
  std::int64_t before = allocations::live();
  for (const std::int64_t n : chosen) {
    SCOPED_TRACE(testing::Message() << name << ", allocation " << n);
    const auto failing = [n] { allocations::start(n); };
    const Outcome outcome = attempt(work, failing);
    EXPECT_TRUE(outcome.counted.failed);
    ASSERT_NE(outcome.end, End::another_error) << outcome.message;
    if (allocations::live() != before) {  // something the process keeps, once; a leak comes again
      before = allocations::live();
      attempt(work, failing);
      ASSERT_LE(allocations::live(), before) << "a leak";
      before = allocations::live();
    }
    if (outcome.end == End::right) {
      survived++;
      ASSERT_EQ(outcome.results, whole.results);
    } else {
      errors++;
    }
  }
  const Outcome last = attempt(work, normally);
  ASSERT_EQ(last.end, End::right) << last.message;
  EXPECT_EQ(last.results, whole.results);
  std::printf(
      "%s: %lld allocations of ours from %zu places, %d errors, %d right results in spite of it; %lld of "
      "others\n",
      name.c_str(), static_cast<long long>(whole.counted.ours), chosen.size(), errors, survived,
      static_cast<long long>(whole.counted.others));
}

}  // namespace replk::test
