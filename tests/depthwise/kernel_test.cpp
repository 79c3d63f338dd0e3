#include "depthwise/problem/kernel.hpp"

#include <gtest/gtest.h>

#include <algorithm>

#include "core/cpu.hpp"
#include "core/error.hpp"
#include "tests/depthwise/case.hpp"

namespace replk::depthwise {
namespace {

/// [height][width] of a channel, from rows and from columns alike.
std::vector<float> values(const Kernel& k, const Weights& weights, int channel) {
  std::vector<float> all, row(static_cast<std::size_t>(k.width) * 8),
      column(static_cast<std::size_t>(k.height) * 8);
  for (int a = 0; a < k.height; a++) {
    weights.row(k, a, 0, 8, row.data());
    for (int b = 0; b < k.width; b++) {
      weights.column(k, b, 0, 8, column.data());
      EXPECT_EQ(column[a * 8 + channel], row[b * 8 + channel]);
      EXPECT_EQ(row[b * 8 + 7], 0) << "there is no channel 7";
      all.push_back(row[b * 8 + channel]);
    }
  }
  return all;
}

TEST(Kernel, MergesBranchesAroundOneCentre) {
  const Problem p = parse("n1c2h9w9k3x1,1x3");
  const std::vector<float> column{1, 2, 3, 10, 20, 30}, row{4, 5, 6, 40, 50, 60}, bias{7, 70};
  const std::vector<std::span<const float>> branches{column, row};
  const Weights weights(p, branches, bias);
  const Kernel k = merged_geometry(p);
  ASSERT_EQ(k.height, 3);
  ASSERT_EQ(k.width, 3);
  EXPECT_EQ(k.offset_h, -1);
  EXPECT_EQ(k.support, (std::vector<std::uint8_t>{0, 1, 0, 1, 1, 1, 0, 1, 0}));
  EXPECT_EQ(values(k, weights, 0), (std::vector<float>{0, 1, 0, 4, 7, 6, 0, 3, 0}));
  EXPECT_EQ(values(k, weights, 1), (std::vector<float>{0, 10, 0, 40, 70, 60, 0, 30, 0}));
  std::vector<float> some(8);
  weights.bias(0, 8, some.data());
  EXPECT_EQ(some, (std::vector<float>{7, 70, 0, 0, 0, 0, 0, 0}));
  weights.scale(0, 8, some.data());
  EXPECT_EQ(some, (std::vector<float>{1, 1, 0, 0, 0, 0, 0, 0}));
}

/// Every branch's weights, added up tap by tap in double where the definition puts them.
TEST(Kernel, HasTheWeightsOfTheDefinition) {
  for (std::uint64_t seed = 0; seed < 300; seed++) {
    Problem p = random_problem_with(static_cast<unsigned>(seed % 8), seed);
    p.channels = 3;
    p.multiplier = 1;
    p.src_strides = p.dst_strides = std::nullopt;
    const Case c(p, seed);
    const Kernel k = merged_geometry(p);
    const Weights weights(p, c.weights, c.bias);
    std::vector<double> sums(k.taps(), 0.0);
    for (std::size_t i = 0; i < p.branches.size(); i++) {
      const Branch& b = p.branches[i];
      const Axis vertical = p.vertical(b), horizontal = p.horizontal(b);
      for (int y = 0; y < b.kernel_h; y++)
        for (int x = 0; x < b.kernel_w; x++) {
          const int row = vertical.offset + y * b.dilation_h - k.offset_h,
                    column = horizontal.offset + x * b.dilation_w - k.offset_w;
          if (row < 0 || row >= k.height || column < 0 || column >= k.width || !k.has(row, column)) continue;
          sums[row * k.width + column] += c.branch_weights[i][2 * b.taps() + y * b.kernel_w + x];
        }
    }
    EXPECT_EQ(values(k, weights, 2), std::vector<float>(sums.begin(), sums.end())) << to_string(p);
  }
}

/// The same lines as of kernels that are turned in memory, by every way of packing.
TEST(Kernel, MayBeReadTurned) {
  for (std::uint64_t seed = 0; seed < 300; seed++) {
    Problem p = random_problem_with(static_cast<unsigned>(seed % 8), seed);
    p.channels = 1 + static_cast<int>(seed * 7 % 40);
    p.multiplier = 1;
    p.src_strides = p.dst_strides = std::nullopt;
    const Case c(p, seed);
    std::vector<std::vector<float>> reversed = c.branch_weights;
    for (std::size_t i = 0; i < reversed.size(); i++)
      for (auto w = reversed[i].begin(); w != reversed[i].end(); w += p.branches[i].taps())
        std::reverse(w, w + p.branches[i].taps());
    const std::vector<std::span<const float>> spans(reversed.begin(), reversed.end());
    const Weights expected(p, spans, c.bias), turned = Weights(p, c.weights, c.bias).turned();
    const Weights twice = turned.turned(), given(p, c.weights, c.bias);
    const Kernel k = merged_geometry(p);
    const auto lines = [&](const Weights& weights, int lanes) {
      std::vector<float> all;
      for (int channel = 0; channel < p.channels; channel += lanes) {
        std::vector<float> line(static_cast<std::size_t>(std::max(k.height, k.width)) * lanes);
        for (int a = 0; a < k.height; a++) {
          weights.row(k, a, channel, lanes, line.data());
          all.insert(all.end(), line.begin(), line.begin() + k.width * lanes);
        }
        for (int b = 0; b < k.width; b++) {
          weights.column(k, b, channel, lanes, line.data());
          all.insert(all.end(), line.begin(), line.begin() + k.height * lanes);
        }
      }
      return all;
    };
    for (const int lanes : {8, 16}) {
      if (lanes == 16 && core::cpu().isa < Isa::avx512) continue;  // blocks of 16 lanes are AVX-512's
      EXPECT_EQ(lines(turned, lanes), lines(expected, lanes)) << to_string(p);
      EXPECT_EQ(lines(twice, lanes), lines(given, lanes)) << to_string(p);
    }
  }
}

/// Those of one branch are packed in one piece, whatever is cropped above and below.
TEST(Kernel, GivesSeveralRowsAsOneByOne) {
  std::vector<Problem> problems;
  for (const char* shape : {"n1c20h7w7k13", "n1c37h9w9k3", "n1c5h3w40k31x7", "n1c16h3w3k13", "n1c24h8w8k2x1"})
    problems.push_back(parse(shape));
  for (std::uint64_t seed = 0; seed < 200; seed++)
    problems.push_back(random_problem_with(static_cast<unsigned>(seed % 8), seed));
  for (std::size_t i = 0; i < problems.size(); i++) {
    const Problem& p = problems[i];
    const Case c(p, i);
    const Kernel k = merged_geometry(p);
    const Weights given(p, c.weights, c.bias), turned = given.turned();
    for (const Weights* weights : {&given, &turned})
      for (const int lanes : {8, 16}) {
        if (lanes == 16 && core::cpu().isa < Isa::avx512) continue;
        const int first = static_cast<int>(i) % k.height, count = k.height - first, row = k.width * lanes;
        for (int channel = 0; channel < p.channels + lanes; channel += lanes) {
          std::vector<float> together(static_cast<std::size_t>(count) * row, -1.0f), apart = together;
          weights->rows(k, first, count, channel, lanes, together.data());
          for (int a = 0; a < count; a++) weights->row(k, first + a, channel, lanes, apart.data() + a * row);
          EXPECT_EQ(together, apart) << to_string(p);
        }
      }
  }
}

TEST(Kernel, SumsInDoubleAndRoundsOnce) {
  const Problem p = parse("n1c1h3w3k1,1,1");
  const std::vector<float> a{1}, b{0x1p-30f}, c{-1};
  const std::vector<std::span<const float>> branches{a, b, c};
  float line[8], bias[8];
  const Weights weights(p, branches, {});
  weights.row(merged_geometry(p), 0, 0, 8, line);
  EXPECT_EQ(line[0], 0x1p-30f);
  weights.bias(0, 8, bias);
  EXPECT_EQ(bias[0], 0);
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
  const Kernel padding = merged_geometry(parse("n1c1h1w1k1p2:-1x0"));
  EXPECT_EQ(padding.taps(), 1);
  EXPECT_FALSE(padding.has(0, 0));
  const Kernel none = merged_geometry(parse("n1c1h1w1k2d5p3"));
  EXPECT_EQ(none.height * none.width, 1);
  EXPECT_FALSE(none.has(0, 0));
}

TEST(Kernel, RefusesWrongSizes) {
  const Problem p = parse("n1c2h9w9k3");
  const std::vector<float> right(18), wrong(17), bias(3);
  const auto status = [&](std::vector<std::span<const float>> weights, std::span<const float> bias) {
    try {
      const Weights accepted(p, weights, bias);
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
