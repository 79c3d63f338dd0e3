#include "depthwise/stripes/stripes.hpp"

#include <gtest/gtest.h>

#include "tests/depthwise/case.hpp"

namespace replk::depthwise {
namespace {

constexpr const char* portable_twice = "stripes v=portable h=portable";

TEST(Stripes, SplitACrossIntoDisjointStripes) {
  const Case c("n1c3h40w40k31x5,5x31,5x5");
  const Kernel whole = merged_geometry(c.problem);
  const Weights weights(c.problem, c.weights, c.bias);
  const auto stripes = split_stripes(whole);
  ASSERT_TRUE(stripes);
  const auto& [v, h] = *stripes;
  EXPECT_EQ(v.width, 5);
  EXPECT_EQ(v.height, 31);
  EXPECT_EQ(h.height, 5);
  EXPECT_EQ(h.width, 31);
  // Every tap of the whole is a tap of exactly one of the two, at the same offset and with the same weight.
  const auto value = [&](const Kernel& k, int row, int column) {
    std::vector<float> line(static_cast<std::size_t>(k.width) * 8);
    weights.row(k, row, 0, 8, line.data());
    return line[column * 8 + 2];
  };
  for (int a = 0; a < whole.height; a++)
    for (int b = 0; b < whole.width; b++) {
      int found = 0;
      for (const Kernel* k : {&v, &h}) {
        const int row = a + whole.offset_h - k->offset_h, column = b + whole.offset_w - k->offset_w;
        if (row < 0 || row >= k->height || column < 0 || column >= k->width || !k->has(row, column)) continue;
        found++;
        EXPECT_EQ(value(*k, row, column), value(whole, a, b));
      }
      EXPECT_EQ(found, whole.has(a, b)) << a << ' ' << b;
    }
}

TEST(Stripes, TapsOfTheOtherStripeAreZeroInBothDirections) {
  // The band is one column wide, and rows of the second stripe are those of a branch that has taps in it.
  const Case c("n1c16h11w9k3x9d2,7x3,9x1d2");
  const Weights weights(c.problem, c.weights, c.bias);
  const auto stripes = split_stripes(merged_geometry(c.problem));
  ASSERT_TRUE(stripes);
  int absent = 0;
  for (const Kernel* k : {&stripes->vertical, &stripes->horizontal}) {
    std::vector<float> row(static_cast<std::size_t>(k->width) * 8),
        column(static_cast<std::size_t>(k->height) * 8);
    for (int a = 0; a < k->height; a++) {
      weights.row(*k, a, 0, 8, row.data());
      for (int b = 0; b < k->width; b++) {
        weights.column(*k, b, 0, 8, column.data());
        absent += !k->has(a, b);
        for (int l = 0; l < 8; l++) {
          EXPECT_EQ(row[b * 8 + l], column[a * 8 + l]) << a << ' ' << b;
          EXPECT_TRUE(k->has(a, b) || row[b * 8 + l] == 0) << a << ' ' << b;
        }
      }
    }
  }
  EXPECT_GT(absent, 0);
}

TEST(Stripes, LeaveOtherKernelsAlone) {
  for (const char* shape : {"n1c3h40w40k31", "n1c3h40w40k31x5", "n1c3h40w40k5x31", "n1c3h40w40k31,5x5",
                            "n1c3h40w40k13,5d2,3d5", "n1c3h7w7k1", "n1c3h7w7k13x5,5x13", "n1c3h40w40k31,5x5"})
    EXPECT_FALSE(split_stripes(merged_geometry(parse(shape)))) << shape;
}

TEST(Stripes, ComputeTheSum) {
  for (const char* shape :
       {"n1c9h30w30k31x5,5x31,5x5", "n2c17h19w33k21x3,3x25", "n1c8h30w30k31x5,5x31,5x5+residual",
        "n1c8h30w30k29x5,5x29s2", "n1c5h30w30k21x3,3x21nchw", "n2c16h11w9k3x9d2,7x3,9x1d2"}) {
    const Case c(shape);
    PlanOptions options;
    options.tiling = Tiling::parse(portable_twice);
    Storage dst = c.run(options);
    const auto samples = all_outputs(c.problem);
    const auto expected = reference(c.problem, c.weights, c.bias, c.tensors(dst), samples);
    EXPECT_LE(compare(c.problem, c.weights, c.bias, c.tensors(dst), samples, expected).max_of_allowed, 1)
        << shape;
  }
}

TEST(Stripes, RefuseWhatTheyCannotDo) {
  const auto legal = [](const char* shape, const char* tiling) {
    return stripes_algorithm().read(request_of(parse(shape)), Tiling::parse(tiling)) != nullptr;
  };
  constexpr const char* cross = "n1c9h30w30k31x5,5x31";
  EXPECT_TRUE(legal(cross, portable_twice));
  EXPECT_FALSE(legal("n1c9h30w30k31x5,5x31+relu", portable_twice));  // the sum comes before the activation
  EXPECT_FALSE(legal("n1c9h30w30k31x5,5x31bf16", portable_twice));   // the first stripe would be rounded
  EXPECT_FALSE(legal("n1c9h30w30k31", portable_twice));
  EXPECT_FALSE(legal(cross, "stripes"));
  EXPECT_FALSE(legal(cross, "stripes v=portable"));
  EXPECT_FALSE(legal(cross, "stripes v=portable h=nonsense"));
  EXPECT_FALSE(legal(cross, "stripes v=stripes h=portable"));  // no recursion
  EXPECT_FALSE(legal(cross, "stripes v=portable h=portable tile=3"));
  EXPECT_FALSE(legal(cross, "stripes v=portable v.tile=3 h=portable"));
  EXPECT_FALSE(legal(cross, "portable"));
}

TEST(Stripes, CandidatesAreLegal) {
  const Problem p = parse("n1c16h56w56k51x5,5x51,5x5");
  const auto candidates = stripes_algorithm().candidates(request_of(p));
  ASSERT_FALSE(candidates.empty());
  for (const Candidate& c : candidates) {
    EXPECT_TRUE(legal(request_of(p), c.tiling)) << c.tiling.to_string();
    EXPECT_EQ(Tiling::parse(c.tiling.to_string()), c.tiling);
  }
}

}  // namespace
}  // namespace replk::depthwise
