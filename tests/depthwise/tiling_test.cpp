#include "depthwise/tiling.hpp"

#include <gtest/gtest.h>

#include "core/error.hpp"

namespace replk::depthwise {
namespace {

TEST(Tiling, IsOneLineAndParsesBack) {
  Tiling tiling;
  tiling.algorithm = "row-spectral";
  tiling.set("n", 28).set("factors", "4x7").set("rows", 7).set("n", 56);
  EXPECT_EQ(tiling.to_string(), "row-spectral n=56 factors=4x7 rows=7");
  EXPECT_EQ(Tiling::parse(tiling.to_string()), tiling);
  EXPECT_EQ(tiling.number("n", -1), 56);
  EXPECT_EQ(tiling.number("factors", -1), -1);
  EXPECT_EQ(tiling.number("absent", 3), 3);
  EXPECT_EQ(tiling.word("factors"), "4x7");
  EXPECT_EQ(Tiling::parse("portable").fields.size(), 0u);
  EXPECT_EQ(Tiling::parse("a b=-12").number("b", 0), -12);
  EXPECT_EQ(Tiling::parse("a b=1234567890").number("b", 0), 0);
  EXPECT_EQ(Tiling::parse("a b=-").number("b", 7), 7);
}

TEST(Tiling, RefusesAnythingElse) {
  for (const std::string& text :
       {std::string(), std::string(" a"), std::string("a=1"), std::string("a b"), std::string("a b="),
        std::string("a =b"), std::string("a b=1=2"), std::string("a  b=1"), std::string("a b=1 "),
        std::string("a b=1 b=2"), std::string("a b=\n"), std::string("a\0b=1", 5), std::string(300, 'a')})
    EXPECT_THROW(Tiling::parse(text), core::Error) << text;
}

}  // namespace
}  // namespace replk::depthwise
