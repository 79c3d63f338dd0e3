#include "depthwise/problem/problem.hpp"

#include <gtest/gtest.h>

#include "core/error.hpp"
#include "tests/depthwise/case.hpp"

namespace replk::depthwise {
namespace {

TEST(Problem, ReadsEveryPartOfAShape) {
  const Problem p = parse("n2c124h56w48k51x5,5x51,5d2x3s2x1p25x2nchwbf16exact+gelu+residual");
  EXPECT_EQ(p.batch, 2);
  EXPECT_EQ(p.channels, 124);
  EXPECT_EQ(p.height, 56);
  EXPECT_EQ(p.width, 48);
  ASSERT_EQ(p.branches.size(), 3u);
  EXPECT_EQ(p.branches[0], (Branch{51, 5, 1, 1}));
  EXPECT_EQ(p.branches[1], (Branch{5, 51, 1, 1}));
  EXPECT_EQ(p.branches[2], (Branch{5, 5, 2, 3}));
  EXPECT_EQ(p.stride_h, 2);
  EXPECT_EQ(p.stride_w, 1);
  EXPECT_EQ(p.pad_h, (Padding{25, 25}));
  EXPECT_EQ(p.pad_w, (Padding{2, 2}));
  EXPECT_EQ(p.layout, Layout::nchw);
  EXPECT_EQ(p.type, DataType::bf16);
  EXPECT_EQ(p.numerics, Numerics::exact);
  EXPECT_EQ(p.epilogue, (Epilogue{true, Activation::gelu, true}));
}

TEST(Problem, DefaultsAreSamePaddingAndNothingElse) {
  const Problem p = parse("n1c128h56w56k31");
  EXPECT_EQ(p.pad_h, (Padding{15, 15}));
  EXPECT_EQ(p.out_height(), 56);
  EXPECT_EQ(p.epilogue, Epilogue{});
  EXPECT_EQ(parse("n1c128h56w56k31x31"), p);
  EXPECT_EQ(parse("n1c1h9w9k4").pad_h, (Padding{1, 1}));  // floor(3 / 2)
  EXPECT_EQ(parse("n1c1h9w9k4").out_height(), 8);
  EXPECT_EQ(parse("n1c1h9w9k5d2").pad_h, (Padding{4, 4}));
  EXPECT_EQ(parse("n1c1h9w9k3p0:2").out_height(), 9);
  EXPECT_EQ(parse("n1c1h9w9k3p-2:1").out_height(), 6);
  EXPECT_EQ(parse("n1c1h9w9k3p5:9s3").out_height(), 7);
  EXPECT_EQ(parse("n1c1h9w9k3,5d2").pad_w, (Padding{4, 4}));
}

TEST(Problem, WhatIsPrintedCanBeTypedBack) {
  for (const char* text :
       {"n1c128h56w56k31", "n1c124h56w56k51x5,5x51,5", "n1c1h1w1k1", "n2c3h9w8k5d2,3", "n1c8h9w9k3s2",
        "n1c8h9w9k3s1x2p0", "n1c8h9w9k3nchwfp16exactnobias+relu+residual", "n1c8h9w9k3p1:2", "n1c8x3h9w9k3",
        "n1c8h9w9k3p-1:2x0:1", "n1c8h9w9k3s16x5", "n1c8h200w1k127x1", "n1c8h9w9k3nchw>nhwc+silu+scale",
        "n1c8h9w9k3nhwc>nchwi10x100x1000+hardswish", "n1c8h9w9k3u8", "n1c8h9w9k3bf16>u8+relu",
        "n1c8h9w9k3fp32>bf16", "n1c8h9w9k3nchwi11x100x1000o9x90x720bf16"})
    EXPECT_EQ(to_string(parse(text)), text);
  for (std::uint64_t seed = 0; seed < 500; seed++) {
    const Problem p = random_problem(seed);
    EXPECT_EQ(parse(to_string(p)), p) << to_string(p);
    const Problem q = random_problem_with(static_cast<unsigned>(seed % 256), seed);
    EXPECT_EQ(parse(to_string(q)), q) << to_string(q);
  }
}

TEST(Problem, CountsUsefulMultiplyAdds) {
  for (std::uint64_t seed = 0; seed < 200; seed++) {
    const Problem p = random_problem(seed);
    // Ones on ones: every output counts the taps that meet the map.
    Problem counting = p;
    counting.type = DataType::f32;
    counting.epilogue = {false, Activation::none, false};
    std::vector<std::vector<float>> ones;
    std::vector<std::span<const float>> weights;
    for (const Branch& b : p.branches)
      ones.emplace_back(static_cast<std::size_t>(p.channels) * b.taps(), 1.0f);
    for (const auto& w : ones) weights.emplace_back(w);
    const std::vector<float> src(p.input_elements(), 1.0f);
    double sum = 0;
    for (double value :
         reference(counting, weights, {}, {src.data(), nullptr, nullptr}, all_outputs(counting)))
      sum += value;
    EXPECT_EQ(static_cast<double>(p.useful_macs()), sum) << to_string(p);
  }
}

std::string error_of(std::string_view text) {
  try {
    parse(text);
  } catch (const core::Error& e) {
    EXPECT_EQ(e.status(), core::Status::invalid_argument);
    return e.what();
  }
  return "accepted";
}

TEST(Problem, RefusesWithFieldValueAndRange) {
  EXPECT_EQ(error_of("n1c0h56w56k3"), "channels (c) is 0; allowed: 1 to 1048576");
  EXPECT_EQ(error_of("n1c1h56w56k65"), "kernel height (k) is 65; allowed: 1 to 63");
  EXPECT_EQ(error_of("n1c1h56w56k1x128"), "kernel width (k) is 128; allowed: 1 to 127");
  EXPECT_EQ(error_of("n1c1h56w56k2x64"), "kernel width (k) is 64; allowed: 1 to 63");
  EXPECT_EQ(error_of("n1c1h56w56k3d65"), "vertical dilation (d) is 65; allowed: 1 to 64");
  EXPECT_EQ(error_of("n1c1h56w56k63d64"), "dilated kernel height is 3969; allowed: 1 to 1024");
  EXPECT_EQ(error_of("n1c1h56w56k3s17"), "vertical stride (s) is 17; allowed: 1 to 16");
  EXPECT_EQ(error_of("n1c1h56w56k3p1024"), "padding above (p) is 1024; allowed: -65535 to 1023");
  EXPECT_EQ(error_of("n1c1h3w3k5p0"), "padded height (h + p + p) is 3; allowed: 5 to 2147483647");
  EXPECT_EQ(error_of("n1c8x5h9w9k3"), "channel multiplier (c..x) is 5; allowed: 1 to 4");
  EXPECT_EQ(parse("n1c8x3h9w9k3").channels, 24);
  EXPECT_EQ(error_of("n1c8h9w9k3i7x90x900"),
            "the input's stride of pixels is 7; allowed: 8 to 140737488355328");
  EXPECT_EQ(error_of("n1c8h9w9k3o8x71x900"),
            "the output's stride of rows is 71; allowed: 72 to 140737488355328");
  EXPECT_EQ(error_of("n1c8h9w9k3nchwi9x81x647"),
            "the input's stride of images is 647; allowed: 648 to 140737488355328");
  EXPECT_NE(error_of("n2c8h9w9k3i8x999999999999999x999999999999999").find("stride of rows"),
            std::string::npos);
  EXPECT_NE(error_of("n1c1h9w9k3,4").find("even and odd"), std::string::npos);
  EXPECT_NE(error_of("n1048576c1048576h65536w65536k3").find("elements of the input"), std::string::npos);
}

TEST(Problem, RefusesBadTextWithItsPosition) {
  EXPECT_NE(error_of("").find("'n' expected at position 1"), std::string::npos);
  EXPECT_NE(error_of("n1c128h56").find("'w' expected at position 10"), std::string::npos);
  EXPECT_NE(error_of("n1c1h9w9k3x").find("a number expected at position 12"), std::string::npos);
  EXPECT_NE(error_of("n1c1h9w9k3 ").find("position 11"), std::string::npos);
  EXPECT_NE(error_of("n1c1h9w9k3s1s1").find("position 13"), std::string::npos);
  EXPECT_NE(error_of("n1c1h9w9k3+relu+gelu").find("position 16"), std::string::npos);
  EXPECT_NE(error_of("n9999999999c1h9w9k3").find("at most 9 digits"), std::string::npos);
  EXPECT_NE(error_of("n1c1h9w9k999999999d999999999").find("kernel height"), std::string::npos);
  EXPECT_NE(error_of(std::string("n1c1h9w9k3") + std::string(1000, ',')).find("position 12"),
            std::string::npos);
}

}  // namespace
}  // namespace replk::depthwise
