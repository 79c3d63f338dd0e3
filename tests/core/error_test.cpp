#include "core/error.hpp"

#include <gtest/gtest.h>

namespace replk::core {
namespace {

TEST(Fail, ThrowsTheStatusAndTheFormattedMessage) {
  try {
    fail(Status::bad_file, "{}: channels = {}: must be 1 to {}", "a.safetensors", 0, 65536);
    FAIL() << "did not throw";
  } catch (const Error& e) {
    EXPECT_EQ(e.status(), Status::bad_file);
    EXPECT_STREQ(e.what(), "a.safetensors: channels = 0: must be 1 to 65536");
  }
}

}  // namespace
}  // namespace replk::core
