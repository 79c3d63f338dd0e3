#include "model/workload.hpp"

#include <fmt/format.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <numeric>
#include <set>
#include <string>
#include <vector>

#include "core/cpu.hpp"
#include "model/network.hpp"
#include "model/weight_source.hpp"

namespace replk::model {
namespace {

/// The shapes of a kind that a run of the network computed, as its profile lists them.
std::set<std::string> computed(const Profile& profile, std::initializer_list<LayerKind> kinds) {
  std::set<std::string> shapes;
  for (const LayerProfile& layer : profile.layers)
    for (LayerKind kind : kinds)
      if (layer.kind == kind) shapes.insert(layer.shape);
  return shapes;
}

TEST(Workload, IsWhatTheNetworkRuns) {
  for (const char* name : {"replknet-test", "convnext-t:k=3,3,3,3", "mobilenetv2:k=5"}) {
    const Architecture architecture = find_architecture(name);
    Network network(architecture, *seeded_weights(architecture, 1));
    const NetworkWorkload both = workload(architecture, {1, 64, 96}, network.classes());
    EXPECT_TRUE(both.bands.linears.empty()) << "maps this small are no chains";
    const Workload& all = both.whole;
    const std::vector<float> image(3 * 64 * 96, 0.5f);
    std::vector<float> logits(network.classes());
    Profile profile;
    network.run({image.data(), 1, 64, 96}, {.logits = logits.data(), .features = {}}, {.profile = &profile});

    std::set<std::string> depthwise;
    for (const depthwise::Problem& problem : all.depthwise) depthwise.insert(to_string(problem));
    EXPECT_EQ(depthwise, computed(profile, {LayerKind::large_depthwise, LayerKind::small_depthwise})) << name;
    EXPECT_EQ(depthwise.size(), all.depthwise.size()) << "each once";

    // The profile spells a linear layer without its epilogue.
    std::set<std::string> linears;
    for (const dense::Linear& l : all.linears)
      linears.insert(fmt::format("{}x{} to {}", l.rows, l.inputs, l.outputs));
    EXPECT_EQ(linears, computed(profile, {LayerKind::pointwise})) << name;
    const auto pointwise =
        std::count_if(profile.layers.begin(), profile.layers.end(),
                      [](const LayerProfile& layer) { return layer.kind == LayerKind::pointwise; });
    EXPECT_EQ(std::accumulate(all.linear_runs.begin(), all.linear_runs.end(), 0), pointwise) << name;
    EXPECT_EQ(all.linear_runs.size(), all.linears.size());
    EXPECT_EQ(all.convolutions.size(), computed(profile, {LayerKind::dense_conv}).size()) << name;
  }
}

// A stem in bands plans each layer on one thread: its records are wanted for one, whatever the network has.
TEST(Workload, LayersInBandsAreApart) {
  const Architecture architecture = find_architecture("replknet-31b");
  const MapSize input{1, 448, 448};  // the stem's maps are 26 MB, its bands some hundred KiB
  if (core::cpu().l2_bytes < (1 << 20) || core::cpu().l2_bytes > (16 << 20))
    GTEST_SKIP() << "in an L2 of " << core::cpu().l2_bytes << " bytes no band fits, or whole maps do";
  const NetworkWorkload both = workload(architecture, input, 10);
  ASSERT_FALSE(both.bands.linears.empty());
  ASSERT_FALSE(both.bands.depthwise.empty());
  for (const dense::Linear& banded : both.bands.linears) EXPECT_LT(banded.rows, 224 * 224);
  for (const depthwise::Problem& banded : both.bands.depthwise)
    EXPECT_TRUE(std::find(both.whole.depthwise.begin(), both.whole.depthwise.end(), banded) ==
                both.whole.depthwise.end());
}

}  // namespace
}  // namespace replk::model
