// The gradient of the central pixel by the input, against PyTorch's autograd in float64.
#include "model/gradient.hpp"

#include <fmt/format.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>

#include "core/error.hpp"
#include "goldens.hpp"

namespace replk::model {
namespace {

Network golden_network(const std::string& name, int threads = 0) {
  NetworkOptions options;
  options.threads = threads;
  return Network(golden_architecture(name), *open_safetensors(golden(name)), options);
}

/// The upper left corner of the first golden picture.
std::vector<float> corner(int height, int width) {
  const GoldenInput input = golden_input();
  std::vector<float> pixels;
  for (int y = 0; y < height; ++y) {
    const auto row = input.pixels.begin() + std::ptrdiff_t{y} * input.width * 3;
    pixels.insert(pixels.end(), row, row + std::ptrdiff_t{width} * 3);
  }
  return pixels;
}

class GradientParity : public testing::TestWithParam<std::string> {};

TEST_P(GradientParity, WithinOneInTenThousandOfAutograd) {
  const std::string name = GetParam();
  const SafetensorsFile file(golden(name.substr(0, name.find('_')) + ".gradient"));
  const Shape& shape = file.tensors().find("gradient")->second.shape;
  const int height = static_cast<int>(shape[2]), width = static_cast<int>(shape[3]);
  const std::vector<float> expected = read_all(file, "gradient"), pixels = corner(height, width);

  const Network network = golden_network(name);
  Gradient gradient(network, height, width);
  std::vector<float> found(pixels.size());
  gradient.of_centre(pixels.data(), found.data());
  double difference = 0, largest = 0;
  const int area = height * width;
  for (int p = 0; p < area; ++p)
    for (int c = 0; c < 3; ++c) {
      const double wanted = expected[c * area + p];
      ASSERT_TRUE(std::isfinite(found[p * 3 + c]));
      difference = std::max(difference, std::abs(found[p * 3 + c] - wanted));
      largest = std::max(largest, std::abs(wanted));
    }
  EXPECT_GT(largest, 0);
  EXPECT_LE(difference / largest, 1e-5);
  RecordProperty("difference", fmt::format("{:.1e}", difference / largest));
}

INSTANTIATE_TEST_SUITE_P(Goldens, GradientParity,
                         testing::Values("replknet", "replknet_merged", "slak", "convnext", "convnextv2",
                                         "unireplknet", "unireplknet_merged", "mobilenetv2"),
                         [](const auto& info) { return info.param; });

TEST(Gradient, IsTheSlopeOfTheCentre) {
  // Along one direction, by central differences: no PyTorch in between.
  Network network = golden_network("replknet");
  constexpr int height = 64, width = 70;
  const std::vector<float> pixels = corner(height, width);
  std::vector<float> slope(pixels.size());
  Gradient(network, height, width).of_centre(pixels.data(), slope.data());
  const FeatureShape shape = network.feature_shape(3, height, width);
  const auto centre = [&](double step) {
    std::vector<float> moved(pixels);
    for (std::size_t i = 0; i < moved.size(); ++i) moved[i] += static_cast<float>(step * slope[i]);
    std::vector<float> map(std::size_t{1} * shape.channels * shape.height * shape.width);
    network.run({moved.data(), 1, height, width}, {nullptr, {nullptr, nullptr, nullptr, map.data()}});
    double sum = 0;
    for (int c = 0; c < shape.channels; ++c)
      sum += std::max(0.0f, map[(c * shape.height + shape.height / 2) * shape.width + shape.width / 2]);
    return sum;
  };
  double square = 0;
  for (float value : slope) square += double(value) * value;
  const double step = 1e-3 / std::sqrt(square);
  EXPECT_NEAR((centre(step) - centre(-step)) / (2 * step) / square, 1, 0.02);
}

TEST(Gradient, RunsAgainWithTheSameBitsAndAlikeOnTwoThreads) {
  const std::vector<float> pixels = corner(51, 66);
  std::vector<float> first(pixels.size()), again(pixels.size(), 7), two(pixels.size());
  const Network single = golden_network("unireplknet", 1), pair = golden_network("unireplknet", 2);
  Gradient gradient(single, 51, 66);
  gradient.of_centre(pixels.data(), first.data());
  gradient.of_centre(pixels.data(), again.data());
  EXPECT_EQ(first, again);
  Gradient(pair, 51, 66).of_centre(pixels.data(), two.data());
  double largest = 0, difference = 0;
  for (std::size_t i = 0; i < first.size(); ++i) {
    largest = std::max(largest, std::abs(double(first[i])));
    difference = std::max(difference, std::abs(double(first[i]) - two[i]));
  }
  EXPECT_LE(difference, 1e-5 * largest);
}

TEST(Gradient, AWrongSizeIsNamed) {
  const Network network = golden_network("replknet");
  EXPECT_THROW(Gradient(network, 31, 64), core::Error);
  EXPECT_THROW(Gradient(network, 64, 16385), core::Error);
}

TEST(Gradient, MemoryIsPlannedForActivationsThatAreKept) {
  const Architecture small = find_architecture("replknet-test");
  const Network network(small, *seeded_weights(small, 1));
  // Every GELU keeps its input: the five feed-forward layers have 4C channels at strides 4, 8, 16, 16
  // and 32.
  std::size_t floats = 0;
  const int pixels[] = {64 * 64, 32 * 32, 16 * 16, 16 * 16, 8 * 8}, channels[] = {16, 32, 64, 64, 128};
  for (int i = 0; i < 5; ++i) floats += std::size_t{4} * pixels[i] * channels[i];
  const std::size_t bytes = Gradient(network, 256, 256).bytes();
  EXPECT_GT(bytes, floats * sizeof(float));
  EXPECT_LT(bytes, 10 * floats * sizeof(float));
}

}  // namespace
}  // namespace replk::model
