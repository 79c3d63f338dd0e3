#include "depthwise/kernel.hpp"

#include <gtest/gtest.h>

#include "core/error.hpp"
#include "tests/depthwise/case.hpp"

namespace replk::depthwise {
namespace {

TEST(Kernel, MergesBranchesAroundOneCentre) {
  const Problem p = parse("n1c2h9w9k3x1,1x3");
  const std::vector<float> column{1, 2, 3, 10, 20, 30}, row{4, 5, 6, 40, 50, 60}, bias{7, 70};
  const Kernel k = merge(p, std::vector<std::span<const float>>{column, row}, bias);
  ASSERT_EQ(k.height, 3);
  ASSERT_EQ(k.width, 3);
  EXPECT_EQ(k.offset_h, -1);
  EXPECT_EQ(k.support, (std::vector<std::uint8_t>{0, 1, 0, 1, 1, 1, 0, 1, 0}));
  const float expected[3][3] = {{0, 1, 0}, {4, 7, 6}, {0, 3, 0}};
  for (int a = 0; a < 3; a++)
    for (int b = 0; b < 3; b++) {
      EXPECT_EQ(k.at(a, b)[0], expected[a][b]);
      EXPECT_EQ(k.at(a, b)[1], 10 * expected[a][b]);
    }
  EXPECT_EQ(k.bias, (std::vector<float>{7, 70}));
}

TEST(Kernel, SumsInDoubleAndRoundsOnce) {
  const Problem p = parse("n1c1h3w3k1,1,1");
  const std::vector<float> a{1}, b{0x1p-30f}, c{-1};
  const Kernel k = merge(p, std::vector<std::span<const float>>{a, b, c}, {});
  EXPECT_EQ(k.weights[0], 0x1p-30f);
  EXPECT_EQ(k.bias[0], 0);
}

TEST(Kernel, IsCroppedToWhatTheMapReaches) {
  const Kernel same = merged_geometry(parse("n1c1h7w5k31"));
  EXPECT_EQ(same.height, 13);  // 2H - 1
  EXPECT_EQ(same.width, 9);
  EXPECT_EQ(same.offset_h, -6);
  EXPECT_EQ(same.offset_w, -4);
  const Kernel valid = merged_geometry(parse("n1c1h40w40k31p0"));
  EXPECT_EQ(valid.height, 31);
  EXPECT_EQ(valid.offset_h, 0);
  // Holes at the edge of what is reached go as well.
  const Kernel dilated = merged_geometry(parse("n1c1h3w3k5d2"));
  EXPECT_EQ(dilated.height, 5);
  EXPECT_EQ(dilated.offset_h, -2);
  EXPECT_FALSE(dilated.has(1, 0));
  // No tap meets the map at all.
  const Kernel none = merged_geometry(parse("n1c1h1w1k2d5p3"));
  EXPECT_EQ(none.height * none.width, 1);
  EXPECT_FALSE(none.has(0, 0));
}

TEST(Kernel, RefusesWrongSizes) {
  const Problem p = parse("n1c2h9w9k3");
  const std::vector<float> right(18), wrong(17), bias(3);
  const auto status = [&](std::vector<std::span<const float>> weights, std::span<const float> bias) {
    try {
      merge(p, weights, bias);
    } catch (const core::Error& e) {
      return e.status();
    }
    return core::Status::ok;
  };
  EXPECT_EQ(status({right}, {}), core::Status::ok);
  EXPECT_EQ(status({wrong}, {}), core::Status::invalid_argument);
  EXPECT_EQ(status({right, right}, {}), core::Status::invalid_argument);
  EXPECT_EQ(status({right}, bias), core::Status::invalid_argument);
}

TEST(Kernel, CountsTapsThatMeetTheMap) {
  for (std::uint64_t seed = 0; seed < 200; seed++) {
    const Problem p = random_problem(seed);
    if (p.branches.size() == 1)
      EXPECT_EQ(meeting_taps(p, merged_geometry(p)), p.useful_macs()) << to_string(p);
    else
      EXPECT_LE(meeting_taps(p, merged_geometry(p)), p.useful_macs()) << to_string(p);
  }
}

}  // namespace
}  // namespace replk::depthwise
