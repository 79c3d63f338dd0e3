#include "model/workload.hpp"

#include <fmt/format.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <numeric>
#include <set>
#include <string>
#include <vector>

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
    const Workload all = workload(architecture, {1, 64, 96}, network.classes());
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

}  // namespace
}  // namespace replk::model
