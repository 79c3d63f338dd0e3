#include "model/arena.hpp"

#include <gtest/gtest.h>

#include <random>

#include "core/memory.hpp"

namespace replk::model {
namespace {

TEST(Arena, BuffersThatLiveTogetherDoNotOverlapAndPeakIsNear) {
  std::mt19937 random(1);
  for (int round = 0; round < 200; ++round) {
    std::vector<Lifetime> buffers(1 + random() % 40);
    for (Lifetime& buffer : buffers) {
      buffer.bytes = random() % 5000;
      buffer.first = static_cast<int>(random() % 50);
      buffer.last = buffer.first + static_cast<int>(random() % 10);
    }
    const ArenaPlan plan = plan_arena(buffers);
    ASSERT_EQ(plan.offsets.size(), buffers.size());
    std::size_t total = 0;
    for (std::size_t i = 0; i < buffers.size(); ++i) {
      EXPECT_EQ(plan.offsets[i] % core::alignment, 0u);
      EXPECT_LE(plan.offsets[i] + buffers[i].bytes, plan.bytes);
      total += core::round_up(buffers[i].bytes, core::alignment);
      for (std::size_t j = 0; j < i; ++j) {
        const bool together = buffers[i].first <= buffers[j].last && buffers[j].first <= buffers[i].last;
        const bool apart = plan.offsets[i] + buffers[i].bytes <= plan.offsets[j] ||
                           plan.offsets[j] + buffers[j].bytes <= plan.offsets[i];
        EXPECT_TRUE(!together || apart || buffers[i].bytes == 0 || buffers[j].bytes == 0);
      }
    }
    EXPECT_LE(plan.bytes, total);
  }
}

TEST(Arena, AChainNeedsTwoBuffers) {
  std::vector<Lifetime> chain;
  for (int i = 0; i < 20; ++i) chain.push_back({640, i, i + 1});
  EXPECT_EQ(plan_arena(chain).bytes, 1280u);
}

}  // namespace
}  // namespace replk::model
