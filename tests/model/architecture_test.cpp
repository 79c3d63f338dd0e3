#include "model/architecture.hpp"

#include <gtest/gtest.h>

#include <cstring>
#include <set>

#include "core/error.hpp"
#include "model/graph.hpp"
#include "model/weight_source.hpp"

namespace replk::model {
namespace {

/// Tensors that are parameters, BN's statistics left out, as the papers count.
std::int64_t parameters(const std::string& name) {
  const auto source = seeded_weights(find_architecture(name), 1);
  std::int64_t count = 0;
  for (const std::string& tensor : source->names())
    if (!tensor.ends_with(".running_mean") && !tensor.ends_with(".running_var"))
      count += elements(*source->shape(tensor));
  return count;
}

TEST(Architecture, TrainFormHasThePublishedParameters) {
  EXPECT_EQ(parameters("replknet-31b"), 79'864'168);  // mmpretrain's metafile
  EXPECT_EQ(parameters("replknet-31l"), 172'671'016);
  EXPECT_EQ(parameters("replknet-xl"), 335'435'752);
  EXPECT_EQ(parameters("replknet-31b:k=13"), 74'156'392);
  EXPECT_EQ(parameters("slak-t"), 50'703'838);  // SLaK's issue 12
  EXPECT_EQ(parameters("slak-s"), 91'131'820);
  EXPECT_EQ(parameters("slak-b"), 157'950'792);
  EXPECT_NEAR(parameters("convnext-t"), 28.59e6, 5e3);
  EXPECT_NEAR(parameters("convnext-b"), 88.59e6, 5e3);
  EXPECT_NEAR(parameters("convnext-t:k=31,29,27,13"), 31.93e6, 5e3);
  EXPECT_EQ(parameters("convnext-a"), 3'695'520);  // timm
  EXPECT_EQ(parameters("convnext-l"), 197'767'336);
  EXPECT_EQ(parameters("convnext-xl"), 350'196'968);
  EXPECT_EQ(parameters("convnextv2-a"), 3'708'400);
  EXPECT_EQ(parameters("convnextv2-t"), 28'635'496);
  EXPECT_EQ(parameters("convnextv2-h"), 660'289'640);
  // 12,032 depthwise channels, each with 25 or 9 taps and a BN's gain and offset.
  EXPECT_EQ(parameters("replknet-31b:small=0"), 79'864'168 - 27 * 12'032);
  EXPECT_EQ(parameters("replknet-31b:small=3"), 79'864'168 - 16 * 12'032);
  EXPECT_EQ(parameters("mobilenetv2"), 3'504'872);  // torchvision
}

TEST(Architecture, NamesAreTheOnesOfTheOfficialRepositories) {
  const auto source = seeded_weights(find_architecture("replknet-31b"), 1);
  // 1171 with one num_batches_tracked a BN, as models.md counts.
  std::size_t counters = 0;
  for (const std::string& name : source->names()) counters += name.ends_with(".running_var");
  EXPECT_EQ(source->names().size() + counters, 1171u);
  const auto slak = seeded_weights(find_architecture("slak-t"), 1);
  EXPECT_EQ(*slak->shape("stages.2.8.large_kernel.LoRA1.conv.weight"), (Shape{499, 1, 47, 5}));
  EXPECT_EQ(*slak->shape("stages.2.8.large_kernel.LoRA2.conv.weight"), (Shape{499, 1, 5, 47}));
  const auto unireplknet = seeded_weights(find_architecture("unireplknet-s"), 1);
  EXPECT_NE(unireplknet->shape("stages.2.3.dwconv.dil_conv_k3_5.weight"), nullptr);
  EXPECT_NE(unireplknet->shape("stages.2.4.dwconv.weight"), nullptr);
}

TEST(Architecture, EveryNameGivesAGraphWithFourStages) {
  std::set<std::string> names;
  for (const std::string& name : architecture_names()) {
    EXPECT_TRUE(names.insert(name).second) << name;
    const Graph graph = build_graph(find_architecture(name), 7);
    EXPECT_GE(graph.logits, 0) << name;
    EXPECT_EQ(graph.values[graph.logits].channels, 7) << name;
    for (const Stage& stage : graph.stages) EXPECT_GT(stage.value, 0) << name;
    EXPECT_LT(build_graph(find_architecture(name), 0).logits, 0) << name;
  }
}

TEST(Architecture, KernelsCanBeOverridden) {
  EXPECT_EQ(find_architecture("replknet-31b:k=3,3,3,3").kernels, (std::vector<int>{3, 3, 3, 3}));
  EXPECT_EQ(find_architecture("mobilenetv2:k=13").kernels, std::vector<int>(7, 13));
  EXPECT_EQ(find_architecture("replknet-31b:k=25,25,25,13").name, "replknet-31b:k=25,25,25,13");
}

TEST(Architecture, SmallKernelsAndWidthsAreOptions) {
  EXPECT_EQ(find_architecture("replknet-31b:small=3").small_kernel, 3);
  EXPECT_EQ(find_architecture("replknet-xl:small=5").small_kernel, 5);
  const Architecture both = find_architecture("replknet-31b:small=0:k=13");
  EXPECT_EQ(both.small_kernel, 0);
  EXPECT_EQ(both.kernels, (std::vector<int>{13, 13, 13, 13}));
  EXPECT_EQ(find_architecture("slak-t").channels, (std::vector<int>{124, 249, 499, 998}));
  EXPECT_EQ(find_architecture("slak-b").channels, (std::vector<int>{166, 332, 665, 1331}));
  EXPECT_EQ(find_architecture("slak-l").channels, (std::vector<int>{249, 499, 998, 1996}));
  EXPECT_EQ(find_architecture("slak-t:width=1").channels, (std::vector<int>{96, 192, 384, 768}));
  EXPECT_EQ(find_architecture("slak-l:width=1.3").channels, find_architecture("slak-l").channels);
  EXPECT_EQ(find_architecture("slak-t:small=3").small_kernel, 3);
}

TEST(Architecture, WrongNamesAreRefusedWithTheNamesThereAre) {
  for (const char* wrong : {"",
                            "replknet",
                            "replknet-31b:",
                            "replknet-31b:k=",
                            "replknet-31b:k=3,3",
                            "replknet-31b:k=4",
                            "replknet-31b:k=65",
                            "replknet-31b:k=3,3,3,3,",
                            "replknet-31b:k=3;3;3;3",
                            "replknet-31b:x=3",
                            "replknet-31b:small=",
                            "replknet-31b:small=4",
                            "replknet-31b:small=-1",
                            "replknet-31b:small=65",
                            "replknet-31b:small=3x",
                            "replknet-31b:small=3:small=3",
                            "replknet-31b:k=3:",
                            "replknet-31b:width=1",
                            "slak-t:small=0",
                            "slak-t:width=",
                            "slak-t:width=0",
                            "slak-t:width=nan",
                            "slak-t:width=5",
                            "convnext-t:small=3",
                            "replknet-31b::k=3",
                            "replknet-31b:k=-3",
                            "replknet-31b:k=99999999999999999999"}) {
    EXPECT_THROW(find_architecture(wrong), core::Error) << wrong;
  }
  try {
    find_architecture("resnet-50");
  } catch (const core::Error& error) {
    EXPECT_NE(std::string(error.what()).find("replknet-31b"), std::string::npos);
  }
}

TEST(SeededWeights, AreTheSameBitsEverywhere) {
  const auto source = seeded_weights(find_architecture("replknet-test"), 1);
  std::vector<float> head(static_cast<std::size_t>(elements(*source->shape("head.weight"))));
  source->read("head.weight", head);
  std::uint64_t hash = 0xcbf29ce484222325u;  // FNV-1a of the bytes
  for (float value : head) {
    unsigned char bytes[4];
    std::memcpy(bytes, &value, 4);
    for (unsigned char byte : bytes) hash = (hash ^ byte) * 0x100000001b3u;
  }
  EXPECT_EQ(hash, 2093620796778010557u);
  const auto other = seeded_weights(find_architecture("replknet-test"), 2);
  std::vector<float> head2(head.size());
  other->read("head.weight", head2);
  EXPECT_NE(head, head2);
}

}  // namespace
}  // namespace replk::model
