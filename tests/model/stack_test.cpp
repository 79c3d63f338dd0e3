// A run of a network takes little of its caller's stack too.
#include "tests/support/stack.hpp"

#include <gtest/gtest.h>

#include <functional>
#include <vector>

#include "core/threads.hpp"
#include "goldens.hpp"
#include "model/network.hpp"

namespace replk::model {
namespace {

TEST(Stack, OfANetworkIsSmall) {
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
  GTEST_SKIP() << "a sanitizer's frames are larger";
#endif
  const GoldenInput input = golden_input();
  for (const char* name : {"replknet", "slak", "convnext", "unireplknet", "mobilenetv2"}) {
    NetworkOptions options;
    options.threads = 1;
    Network network(golden_architecture(name), *open_safetensors(golden(name)), options);
    std::vector<float> logits(static_cast<std::size_t>(input.batch) * network.classes());
    network.prepare(input.batch, input.height, input.width);
    const std::size_t used = test::stack_of([&] {
      network.run({input.pixels.data(), input.batch, input.height, input.width}, {logits.data(), {}});
    });
    EXPECT_LE(used, std::size_t{64} << 10) << name;
  }
}

}  // namespace
}  // namespace replk::model
