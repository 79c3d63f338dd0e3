#include "core/memory.hpp"

#include <gtest/gtest.h>
#include <sys/mman.h>

#include <cstdint>
#include <cstring>
#include <utility>

namespace replk::core {
namespace {

TEST(RoundUp, GivesTheNextMultiple) {
  EXPECT_EQ(round_up(0, 64), 0u);
  EXPECT_EQ(round_up(1, 64), 64u);
  EXPECT_EQ(round_up(64, 64), 64u);
  EXPECT_EQ(round_up(65, 64), 128u);
}

TEST(Buffer, IsAlignedToACacheLine) {
  for (std::size_t count : {1, 3, 15, 16, 17, 1000}) {
    const Buffer<float> buffer(count);
    EXPECT_EQ(reinterpret_cast<std::uintptr_t>(buffer.data()) % alignment, 0u) << count;
    EXPECT_EQ(buffer.size(), count);
  }
}

TEST(Buffer, IsZeroedWhenAsked) {
  const Buffer<int> buffer(1000, true);
  for (int value : buffer) ASSERT_EQ(value, 0);
}

TEST(Buffer, LargeOnesAreZeroedAlignedAndWritableToTheirEnds) {
  for (std::size_t bytes :
       {std::size_t{1} << 20, (std::size_t{1} << 20) + 1, std::size_t{5} << 20, (std::size_t{4} << 20) - 1}) {
    Buffer<char> buffer(bytes, true);
    EXPECT_EQ(reinterpret_cast<std::uintptr_t>(buffer.data()) % alignment, 0u);
    for (char value : buffer) ASSERT_EQ(value, 0);
    buffer[0] = buffer[bytes - 1] = 1;
  }
}

/// What lies behind it in the huge page that it would have.
TEST(Buffer, InSmallPagesTakesNoMoreThanItHolds) {
  constexpr std::size_t bytes = std::size_t{3} << 19;
  Buffer<char> buffer(bytes);
  if (reinterpret_cast<std::uintptr_t>(buffer.data()) % (std::size_t{2} << 20) != 0)
    GTEST_SKIP() << "the sanitizer owns the heap";
  keep_pages_small(buffer.data(), bytes);
  std::memset(buffer.data(), 1, bytes);
  unsigned char resident = 0;
  ASSERT_EQ(::mincore(buffer.data() + bytes - 4096, 4096, &resident), 0);
  EXPECT_EQ(resident & 1, 1);
  ASSERT_EQ(::mincore(buffer.data() + bytes, 4096, &resident), 0);
  EXPECT_EQ(resident & 1, 0);
}

TEST(Buffer, OfNothingHoldsNothing) {
  const Buffer<float> buffer(0);
  EXPECT_EQ(buffer.data(), nullptr);
  EXPECT_EQ(buffer.begin(), buffer.end());
}

TEST(Buffer, MovesItsMemory) {
  Buffer<float> a(8);
  a[0] = 1;
  float* data = a.data();
  Buffer<float> b(std::move(a));
  EXPECT_EQ(b.data(), data);
  EXPECT_EQ(a.size(), 0u);
  Buffer<float> c(3);
  c = std::move(b);
  EXPECT_EQ(c.data(), data);
  EXPECT_EQ(c.size(), 8u);
}

TEST(Buffer, RefusesSizesThatOverflow) {
  for (std::size_t count : {SIZE_MAX, SIZE_MAX / 2, SIZE_MAX / 8 + 1}) {
    try {
      Buffer<double> buffer(count);
      FAIL() << count;
    } catch (const Error& e) {
      EXPECT_EQ(e.status(), Status::out_of_memory);
    }
  }
}

}  // namespace
}  // namespace replk::core
