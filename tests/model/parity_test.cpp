// Networks against PyTorch in float64.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>

#include "goldens.hpp"
#include "model/network.hpp"

namespace replk::model {
namespace {

struct Case {
  std::string network, expected;
};

class Parity : public testing::TestWithParam<Case> {};

/// Largest difference over the largest expected value.
double relative_difference(const std::vector<float>& found, const std::vector<float>& expected) {
  EXPECT_EQ(found.size(), expected.size());
  double difference = 0, largest = 0;
  for (std::size_t i = 0; i < found.size(); ++i) {
    if (std::isnan(found[i])) return INFINITY;
    difference = std::max(difference, std::abs(double(found[i]) - expected[i]));
    largest = std::max(largest, std::abs(double(expected[i])));
  }
  return difference / largest;
}

TEST_P(Parity, WithinOneInAHundredThousandOfPyTorchInDouble) {
  const auto& [name, expected_name] = GetParam();
  const GoldenInput input = golden_input();
  const SafetensorsFile expected(golden(expected_name + ".expected"));
  NetworkOptions options;
  options.norm_intermediate_features = name == "replknet_xl" || name.ends_with("_bare");
  Network network(golden_architecture(name), *open_safetensors(golden(name)), options);
  ASSERT_EQ(network.classes(), 10);

  std::vector<float> logits(static_cast<std::size_t>(input.batch) * network.classes());
  std::array<std::vector<float>, 4> features;
  Output output{logits.data(), {}};
  for (int s = 0; s < 4; ++s) {
    const FeatureShape shape = network.feature_shape(s, input.height, input.width);
    const Shape wanted = expected.tensors().find("stage" + std::to_string(s + 1))->second.shape;
    ASSERT_EQ((Shape{input.batch, shape.channels, shape.height, shape.width}), wanted);
    features[s].resize(static_cast<std::size_t>(elements(wanted)));
    output.features[s] = features[s].data();
  }
  network.run({input.pixels.data(), input.batch, input.height, input.width}, output);

  EXPECT_LE(relative_difference(logits, read_all(expected, "logits")), 1e-5);
  for (int s = 0; s < 4; ++s)
    EXPECT_LE(relative_difference(features[s], read_all(expected, "stage" + std::to_string(s + 1))), 1e-5)
        << "stage " << s + 1;
}

INSTANTIATE_TEST_SUITE_P(
    Goldens, Parity,
    testing::Values(Case{"replknet", "replknet"}, Case{"replknet_merged", "replknet"},
                    Case{"replknet_xl", "replknet_xl"}, Case{"slak", "slak"}, Case{"convnext", "convnext"},
                    Case{"unireplknet", "unireplknet"}, Case{"unireplknet_merged", "unireplknet"},
                    Case{"mobilenetv2", "mobilenetv2"}, Case{"replknet_small3", "replknet_small3"},
                    Case{"replknet_small0", "replknet_small0"}, Case{"convnextv2", "convnextv2"},
                    Case{"convnext_bare", "convnext_bare"}, Case{"unireplknet_bare", "unireplknet_bare"}),
    [](const auto& info) { return info.param.network; });

}  // namespace
}  // namespace replk::model
