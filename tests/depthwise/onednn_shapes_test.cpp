// oneDNN's own depthwise shapes (onednn_shapes.txt): every one runs, and within its bound of a double sum.
//
// REPLK_SWEEP: quick (the default: every 12th) or long (all).
#include <gtest/gtest.h>

#include <cstdlib>
#include <fstream>
#include <sstream>

#include "tests/depthwise/case.hpp"

namespace replk::depthwise {
namespace {

/// Numbers of a text, in their order.
std::vector<int> numbers(const std::string& text) {
  std::vector<int> all;
  for (std::size_t at = 0; at < text.size();) {
    const std::size_t begin = text.find_first_of("0123456789", at);
    if (begin == text.npos) break;
    at = text.find_first_not_of("0123456789", begin);
    all.push_back(std::atoi(text.substr(begin, at - begin).c_str()));
  }
  return all;
}

/// `k2x1d3s1x5p1 c1,8: 4x5>3x2 ..` as problems. The padding after the map follows from the output.
std::vector<Problem> problems_of(const std::string& line) {
  std::istringstream words(line);
  std::string kernel, word;
  words >> kernel >> word;
  // The kernel's own parser reads all but the map.
  const Problem common = parse("n1c1h4096w4096" + kernel);
  int multiplier = 1;
  if (word[0] == 'm') multiplier = numbers(word)[0], words >> word;
  const std::vector<int> channels = numbers(word);
  std::vector<Problem> all;
  while (words >> word) {
    const std::vector<int> sizes = numbers(word);
    EXPECT_EQ(sizes.size(), 4u) << line;
    for (const int c : channels) {
      Problem p = common;
      p.channels = c * multiplier;
      p.multiplier = multiplier;
      p.height = sizes[0];
      p.width = sizes[1];
      const Branch& b = p.branches[0];
      p.pad_h.after = (sizes[2] - 1) * p.stride_h + b.extent_h() - p.height - p.pad_h.before;
      p.pad_w.after = (sizes[3] - 1) * p.stride_w + b.extent_w() - p.width - p.pad_w.before;
      EXPECT_EQ(p.out_height(), sizes[2]) << line;
      EXPECT_EQ(p.out_width(), sizes[3]) << line;
      all.push_back(p);
    }
  }
  return all;
}

TEST(OnednnShapes, AllRunWithinTheirBound) {
  std::ifstream file(REPLK_ONEDNN_SHAPES);
  ASSERT_TRUE(file) << REPLK_ONEDNN_SHAPES;
  std::vector<Problem> all;
  for (std::string line; std::getline(file, line);)
    if (line[0] != '#')
      for (const Problem& p : problems_of(line)) all.push_back(p);
  EXPECT_GT(all.size(), 7000u);
  const char* sweep = std::getenv("REPLK_SWEEP");
  const std::size_t step = sweep && std::string(sweep) == "long" ? 1 : 12;
  int run = 0, large = 0;
  double worst = 0;
  for (std::size_t i = 0; i < all.size(); i += step) {
    Problem p = all[i];
    p.layout = i / step % 2 ? Layout::nchw : Layout::nhwc;
    p.numerics = i / step % 5 ? Numerics::fast : Numerics::exact;
    if (p.useful_macs() > 30'000'000) {
      large++;
      continue;
    }
    SCOPED_TRACE(to_string(p));
    const Case c(p, i);
    PlanOptions options;
    options.threads = 1;
    Storage got = c.run(options);
    const auto samples = sampled_outputs(p, 2000, i);
    const auto expected = reference(p, c.weights, c.bias, c.tensors(got), samples);
    const double of_allowed = compare(p, c.weights, c.bias, c.tensors(got), samples, expected).max_of_allowed;
    // Class exact sums in one order: an error that grows with the taps, as Trial allows it.
    if (p.numerics == Numerics::exact) {
      ASSERT_LE(of_allowed, p.branches[0].taps() + 2);
    } else {
      ASSERT_LE(of_allowed, 1);
      worst = std::max(worst, of_allowed);
    }
    run++;
  }
  std::printf(
      "%d of %zu shapes, up to %.2f of what fast allows; %d of more than 3e7 multiply-adds left out\n", run,
      all.size(), worst, large);
  EXPECT_GT(run, static_cast<int>(all.size() / step) - 60);
}

}  // namespace
}  // namespace replk::depthwise
