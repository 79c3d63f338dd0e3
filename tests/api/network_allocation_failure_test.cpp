// The same for a network: reading its file, folding, planning and running, one allocation of each place in
// the code.
#include <gtest/gtest.h>

#include <cstdio>
#include <functional>
#include <new>
#include <string>
#include <thread>
#include <vector>

#include "core/error.hpp"
#include "jit/x64/code.hpp"
#include "model/network.hpp"
#include "tests/model/goldens.hpp"
#include "tests/support/failing_allocations.hpp"

namespace replk::model {
namespace {

namespace allocations = test::allocations;

enum class End { right, wrong, out_of_memory, another_error };

struct Outcome {
  End end = End::wrong;
  std::string message;
  std::vector<float> logits;
  allocations::Counted counted;
};

Outcome attempt(const std::string& name, const GoldenInput& input, const std::function<void()>& start) {
  Outcome outcome;
  outcome.logits.resize(static_cast<std::size_t>(input.batch) * 10);
  std::thread([&] {
    try {
      NetworkOptions options;
      options.threads = 1;
      const Architecture architecture = golden_architecture(name);
      const std::string path = golden(name);
      start();
      Network network(architecture, *open_safetensors(path), options);
      network.run({input.pixels.data(), input.batch, input.height, input.width}, {outcome.logits.data(), {}});
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
      outcome.end = End::another_error;
      outcome.message = error.what();
    }
  }).join();
  jit::set_code_cache_capacity(0);
  jit::set_code_cache_capacity(64 << 20);
  return outcome;
}

class NetworkAllocationFailure : public testing::TestWithParam<const char*> {};

TEST_P(NetworkAllocationFailure, EachPlaceGivesAnErrorAndLeavesNothing) {
  if (!allocations::can_fail) GTEST_SKIP() << "a sanitizer owns malloc here";
  const std::string name = GetParam();
  const GoldenInput input = golden_input();
  const auto normally = [] { allocations::start(0); };
  for (int i = 0; i < 2; i++) attempt(name, input, normally);
  const Outcome whole = attempt(name, input, [] { allocations::start_recording(); });
  ASSERT_EQ(whole.end, End::right) << whole.message;
  const std::vector<std::int64_t> chosen = allocations::worth_failing(0);

  int errors = 0, survived = 0;
  std::int64_t before = allocations::live();
  for (const std::int64_t n : chosen) {
    SCOPED_TRACE(testing::Message() << "allocation " << n);
    const auto failing = [n] { allocations::start(n); };
    Outcome outcome = attempt(name, input, failing);
    EXPECT_TRUE(outcome.counted.failed);
    ASSERT_NE(outcome.end, End::another_error) << outcome.message;
    if (allocations::live() != before) {  // something the process keeps, once; a leak comes again
      before = allocations::live();
      attempt(name, input, failing);
      ASSERT_LE(allocations::live(), before) << "a leak";
      before = allocations::live();
    }
    if (outcome.end == End::right) {
      survived++;
      ASSERT_EQ(outcome.logits, whole.logits);
    } else {
      errors++;
    }
  }
  const Outcome last = attempt(name, input, normally);
  ASSERT_EQ(last.end, End::right) << last.message;
  EXPECT_EQ(last.logits, whole.logits);
  std::printf(
      "%s: %lld allocations of ours from %zu places, %d errors, %d right results in spite of it; %lld of "
      "others\n",
      name.c_str(), static_cast<long long>(whole.counted.ours), chosen.size(), errors, survived,
      static_cast<long long>(whole.counted.others));
}

INSTANTIATE_TEST_SUITE_P(, NetworkAllocationFailure, testing::Values("convnext", "replknet"),
                         [](const auto& info) { return std::string(info.param); });

}  // namespace
}  // namespace replk::model
