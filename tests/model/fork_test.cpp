// A network in a forked child, whose parent has run it on several threads, oneDNN's layers included.
#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cmath>

#include "goldens.hpp"
#include "model/network.hpp"

namespace replk::model {
namespace {

TEST(Fork, TheChildRunsTheNetworkAndMakesAnother) {
#ifdef __SANITIZE_ADDRESS__
  GTEST_SKIP() << "the sanitizer's allocator may be locked by another thread just when the process forks";
#endif
  const GoldenInput input = golden_input();
  for (const char* name : {"replknet", "convnext", "mobilenetv2"}) {
    NetworkOptions options;
    options.threads = 4;
    const auto logits_of = [&](Network& network) {
      std::vector<float> logits(static_cast<std::size_t>(input.batch) * network.classes());
      network.run({input.pixels.data(), input.batch, input.height, input.width}, {logits.data(), {}});
      return logits;
    };
    Network network(golden_architecture(name), *open_safetensors(golden(name)), options);
    const std::vector<float> expected = logits_of(network);
    const auto close_to_expected = [&](const std::vector<float>& found) {
      float largest = 0, difference = 0;
      for (std::size_t i = 0; i < expected.size(); i++) {
        largest = std::max(largest, std::abs(expected[i]));
        difference = std::max(difference, std::abs(expected[i] - found[i]));
      }
      return difference <= 1e-5f * largest;
    };
    const pid_t child = fork();
    if (child == 0) {
      alarm(120);  // instead of hanging
      if (!close_to_expected(logits_of(network))) _exit(1);
      Network another(golden_architecture(name), *open_safetensors(golden(name)), options);
      _exit(close_to_expected(logits_of(another)) ? 0 : 2);
    }
    int status = -1;
    ASSERT_EQ(waitpid(child, &status, 0), child);
    EXPECT_EQ(status, 0) << name;
    EXPECT_EQ(logits_of(network), expected) << "the parent goes on";
  }
}

}  // namespace
}  // namespace replk::model
