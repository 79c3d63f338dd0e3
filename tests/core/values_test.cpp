// Values that know their type.
#include "core/values.hpp"

#include <gtest/gtest.h>

#include <type_traits>

namespace replk {
namespace {

TEST(Values, KnowTheirType) {
  float floats[3] = {1, 2, 3};
  const core::Bf16 halves[3] = {{1}, {2}, {3}};
  std::uint8_t bytes[3] = {1, 2, 3};
  const Values f = floats;
  const ConstValues h = halves, u = Values(bytes);
  EXPECT_EQ(f.type(), Element::f32);
  EXPECT_EQ(h.type(), Element::bf16);
  EXPECT_EQ(u.type(), Element::u8);
  EXPECT_EQ((f + 2).as<float>(), floats + 2);
  EXPECT_EQ((h + 2).as<core::Bf16>(), halves + 2);
  EXPECT_EQ((u + 2).as<std::uint8_t>(), bytes + 2);
}

TEST(Values, AreNotReadAsAnotherType) {
  std::uint8_t bytes[4] = {};
  const ConstValues values = bytes;
  EXPECT_THROW(values.as<float>(), core::Error);
  EXPECT_THROW(values.as<core::Bf16>(), core::Error);
}

TEST(Values, MayBeNone) {
  EXPECT_FALSE(Values());
  EXPECT_FALSE(ConstValues(nullptr));
  EXPECT_EQ(Values().as<std::uint8_t>(), nullptr);
}

// What is only read cannot be written, nor made of what has no element type.
static_assert(!std::is_convertible_v<const float*, Values> && !std::is_convertible_v<ConstValues, Values>);
static_assert(std::is_convertible_v<Values, ConstValues> && !std::is_convertible_v<int*, ConstValues>);

}  // namespace
}  // namespace replk
