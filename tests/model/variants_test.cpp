// What a file may have or lack of one family: layer scale, GRN, norms of features, another epsilon.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <string>
#include <vector>

#include "changed_source.hpp"
#include "core/error.hpp"
#include "model/network.hpp"
#include "model/quantise_network.hpp"

namespace replk::model {
namespace {

Network network_of(const std::string& architecture, const WeightSource& source, bool norms = false) {
  NetworkOptions options;
  options.threads = 1;
  options.norm_intermediate_features = norms;
  return Network(golden_architecture(architecture), source, options);
}

/// The error's text, and its status.
std::string refusal(const std::string& architecture, const WeightSource& source, core::Status status,
                    bool norms = false) {
  try {
    network_of(architecture, source, norms);
  } catch (const core::Error& error) {
    EXPECT_EQ(error.status(), status) << error.what();
    return error.what();
  }
  return "";
}

bool contains(const std::string& text, const std::string& part) {
  return text.find(part) != std::string::npos;
}

std::vector<float> logits_of(Network& network) {
  const GoldenInput input = golden_input();
  std::vector<float> logits(static_cast<std::size_t>(input.batch) * network.classes());
  network.run({input.pixels.data(), input.batch, input.height, input.width}, {logits.data(), {}});
  return logits;
}

/// Largest difference over the largest expected value.
double difference(const std::vector<float>& found, const std::vector<float>& expected) {
  double difference = 0, largest = 0;
  for (std::size_t i = 0; i < expected.size(); ++i) {
    difference = std::max(difference, std::abs(double(found[i]) - expected[i]));
    largest = std::max(largest, std::abs(double(expected[i])));
  }
  return difference / largest;
}

TEST(Variants, LayerScaleIsInAllBlocksOrInNone) {
  ChangedSource source("convnext");
  source.tensors.erase(source.tensors.find("stages.2.1.gamma"));
  EXPECT_TRUE(contains(refusal("convnext", source, core::Status::bad_file), "'stages.2.1.gamma' is missing"));
  ChangedSource none("convnext_bare");
  none.tensors["stages.2.1.gamma"] = {{16}, std::vector<float>(16, 1.0f)};
  EXPECT_TRUE(contains(refusal("convnext", none, core::Status::bad_file), "'stages.0.0.gamma' is missing"));
}

TEST(Variants, TheSecondConvNeXtIsNotTheFirst) {
  EXPECT_TRUE(contains(refusal("convnext", ChangedSource("convnextv2"), core::Status::bad_file),
                       "'stages.0.0.grn.beta'"));
  EXPECT_TRUE(contains(refusal("convnextv2", ChangedSource("convnext"), core::Status::bad_file),
                       "'stages.0.0.grn.gamma' is missing"));
}

TEST(Variants, NormsOfFeaturesMustBeThere) {
  EXPECT_TRUE(contains(refusal("convnext", ChangedSource("convnext"), core::Status::bad_file, true),
                       "'norm0.weight' is missing"));
  ChangedSource source("unireplknet_bare");
  source.tensors.erase(source.tensors.find("norm3.bias"));
  EXPECT_TRUE(
      contains(refusal("unireplknet_bare", source, core::Status::bad_file, true), "'norm3.bias' is missing"));
  EXPECT_TRUE(contains(
      refusal("mobilenetv2", ChangedSource("mobilenetv2"), core::Status::invalid_argument, true), "norms"));
}

TEST(Variants, TheLastNormsEpsilonIsTheFiles) {
  ChangedSource source("convnext_bare");
  ASSERT_EQ(source.head_norm_epsilon, "0.01");
  Network own = network_of("convnext_bare", source);
  source.head_norm_epsilon.clear();
  Network usual = network_of("convnext_bare", source);
  EXPECT_GT(difference(logits_of(usual), logits_of(own)), 1e-3);
  for (const char* wrong : {"0", "-1", "nan", "inf", "2", "1e-6x", " ", "1e-999", "0x1"}) {
    source.head_norm_epsilon = wrong;
    EXPECT_TRUE(contains(refusal("convnext_bare", source, core::Status::bad_file), "head_norm_epsilon"))
        << wrong;
  }
}

TEST(Variants, QuantisedFilesKeepNormsAndEpsilon) {
  for (const char* name : {"convnext_bare", "convnextv2", "unireplknet_bare"}) {
    const ChangedSource source(name);
    const QuantisedNetwork made = quantise_network(as_stored(golden_architecture(name), source), source, {});
    EXPECT_EQ(made.tensors.metadata("head_norm_epsilon"), source.head_norm_epsilon);
    Network wide = network_of(name, source), narrow = network_of(name, made.tensors);
    EXPECT_EQ(narrow.precision(), Precision::int8);
    // Eight channels do not average errors; another network would be off by more than its own size.
    const double found = difference(logits_of(narrow), logits_of(wide));
    EXPECT_GT(found, 0) << name;
    EXPECT_LE(found, 0.3) << name;
    if (source.shape("norm2.weight") != nullptr) network_of(name, made.tensors, true);
  }
}

}  // namespace
}  // namespace replk::model
