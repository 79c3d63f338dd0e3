// What a loop takes off memory that will be read soon, and when.
#include "core/prefetch.hpp"

#include <gtest/gtest.h>

#include <array>
#include <cstddef>
#include <cstdint>
#include <vector>

namespace replk::core {
namespace {

constexpr std::int64_t line = 64;

struct Loops {
  std::array<std::byte, 10 * line> memory{};
  const char idle = 0;
  Prefetch prefetch{memory};

  /// Which lines a loop of so many steps walks over; none where it stands still.
  std::vector<std::int64_t> loop(std::int64_t steps) {
    const Prefetch::Walk walk = prefetch.take(steps, line, &idle);
    std::vector<std::int64_t> lines;
    if (walk.begin == &idle) {
      EXPECT_EQ(walk.step, 0);
      return lines;
    }
    for (std::int64_t i = 0; i < steps; i++)
      lines.push_back((walk.begin + i * walk.step - reinterpret_cast<const char*>(memory.data())) / line);
    return lines;
  }
};

TEST(Prefetch, IsTakenFromTheFront) {
  Loops loops;
  EXPECT_EQ(loops.loop(4), (std::vector<std::int64_t>{0, 1, 2, 3}));
  EXPECT_EQ(loops.loop(6), (std::vector<std::int64_t>{4, 5, 6, 7, 8, 9}));
  EXPECT_EQ(loops.loop(4), std::vector<std::int64_t>());
}

TEST(Prefetch, DelayedLoopsTakeItAsLateAsItFits) {
  Loops loops;
  loops.prefetch.delay(18, line);  // 10 lines: the first 8 steps are idle
  EXPECT_EQ(loops.loop(4), std::vector<std::int64_t>());
  EXPECT_EQ(loops.loop(4), std::vector<std::int64_t>());
  EXPECT_EQ(loops.loop(5), (std::vector<std::int64_t>{0, 1, 2, 3, 4}));
  EXPECT_EQ(loops.loop(5), (std::vector<std::int64_t>{5, 6, 7, 8, 9}));
}

TEST(Prefetch, ALoopThatTheDelayEndsInTakes) {
  Loops loops;
  loops.prefetch.delay(13, line);  // 3 idle steps end within the first loop, and the rest is too few
  EXPECT_EQ(loops.loop(5), (std::vector<std::int64_t>{0, 1, 2, 3, 4}));
  EXPECT_EQ(loops.loop(5).size(), 5u);
  EXPECT_EQ(loops.loop(3), std::vector<std::int64_t>());
}

TEST(Prefetch, WithFewStepsThereIsNoDelay) {
  Loops loops;
  loops.prefetch.delay(9, line);
  EXPECT_EQ(loops.loop(4), (std::vector<std::int64_t>{0, 1, 2, 3}));
}

}  // namespace
}  // namespace replk::core
