#include "core/thread_trial.hpp"

#include <gtest/gtest.h>

#include <string>

#include "tests/support/thread_count.hpp"

namespace replk::core {
namespace {

TEST(StackBytes, AreReadAsOpenMpReadsThem) {
  EXPECT_EQ(stack_bytes("64"), 64u << 10);
  EXPECT_EQ(stack_bytes("4096B"), 4096u);
  EXPECT_EQ(stack_bytes(" 128 k "), 128u << 10);
  EXPECT_EQ(stack_bytes("16M"), 16u << 20);
  EXPECT_EQ(stack_bytes("1g"), std::size_t{1} << 30);
  for (const char* text :
       {"", " ", "M", "-1", "1T", "1 M B", "1.5M", "99999999999999999999", "18446744073709551615"})
    EXPECT_EQ(stack_bytes(text), 0u) << text;
}

TEST(ThreadTrial, LeavesNoThreadBehind) {
  const int before = test::thread_count();  // a sanitizer may have one of its own
  for (const int wanted : {0, 1, 5, 40}) EXPECT_EQ(threads_to_be_had(wanted), wanted);
  EXPECT_LE(threads_to_be_had(1 << 20), most_threads);
  EXPECT_EQ(test::thread_count(), before);
}

}  // namespace
}  // namespace replk::core
