// RepLKNet-31B where the system forbids executable memory, against the same network with generated code.
#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstdio>
#include <vector>

#include "replk/replk.h"
#include "tests/support/refuse_code.hpp"

namespace {

constexpr int side = 224, classes = 1000;

/// Empty where something failed. Prints what the first run took.
std::vector<float> logits() {
  using Clock = std::chrono::steady_clock;
  const auto start = Clock::now();
  const auto seconds = [&] { return std::chrono::duration<double>(Clock::now() - start).count(); };
  replk_model* model = nullptr;
  std::vector<float> pixels(side * side * 3), result(classes);
  for (std::size_t i = 0; i < pixels.size(); i++) pixels[i] = static_cast<float>(i * 31 % 1021) / 512 - 1;
  if (replk_model_load("replknet-31b", nullptr, nullptr, &model) != REPLK_OK) return {};
  const double loaded = seconds();
  const replk_status status =
      replk_model_run(model, pixels.data(), 1, side, side, result.data(), nullptr, nullptr);
  replk_cpu_info info{};
  info.struct_size = sizeof info;
  replk_get_cpu_info(&info);
  std::printf("generated code: %s; loaded in %.1f s, planned and run in %.1f s on %d threads\n",
              info.code_generation ? "yes" : "no", loaded, seconds() - loaded, replk_default_threads());
  std::fflush(stdout);
  replk_model_destroy(model);
  if (status != REPLK_OK) result.clear();
  return result;
}

TEST(Refused31B, GivesTheSameLogits) {
  int ends[2];
  ASSERT_EQ(pipe(ends), 0);
  const pid_t child = fork();  // before the library has started a thread
  if (child == 0) {
    if (!replk::test::refuse_code()) _exit(77);
    const std::vector<float> found = logits();
    const auto bytes = static_cast<ssize_t>(found.size() * sizeof(float));
    _exit(!found.empty() && write(ends[1], found.data(), static_cast<std::size_t>(bytes)) == bytes ? 0 : 1);
  }
  close(ends[1]);
  std::vector<float> found(classes);
  std::size_t got = 0;
  for (ssize_t n = 1; n > 0 && got < classes * sizeof(float);
       got += static_cast<std::size_t>(std::max<ssize_t>(n, 0)))
    n = read(ends[0], reinterpret_cast<char*>(found.data()) + got, classes * sizeof(float) - got);
  close(ends[0]);
  int status = 0;
  waitpid(child, &status, 0);
  if (WIFEXITED(status) && WEXITSTATUS(status) == 77) GTEST_SKIP() << "this system has no seccomp";
  ASSERT_EQ(status, 0);
  ASSERT_EQ(got, classes * sizeof(float));

  const std::vector<float> expected = logits();
  ASSERT_EQ(expected.size(), found.size());
  float largest = 0, difference = 0;
  for (int i = 0; i < classes; i++) {
    largest = std::max(largest, std::abs(expected[i]));
    difference = std::max(difference, std::abs(expected[i] - found[i]));
  }
  EXPECT_LE(difference, 1e-5f * largest);
}

}  // namespace
