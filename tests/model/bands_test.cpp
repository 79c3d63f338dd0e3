#include "model/bands.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <functional>
#include <random>
#include <string>
#include <vector>

#include "core/memory.hpp"
#include "model/banded_steps.hpp"
#include "model/fold.hpp"
#include "model/network.hpp"
#include "model/weight_source.hpp"

namespace replk::model {
namespace {

struct Stem {
  explicit Stem(const char* name, const MapSize& input, Precision precision = Precision::fp32)
      : architecture(find_architecture(name)),
        graph(build_graph(architecture, 0)),
        sizes(graph.values.size()),
        weights(seeded_weights(architecture, 1)) {
    sizes[0] = input;
    for (const Layer& layer : graph.layers) sizes[layer.dst] = output_size(layer, sizes[layer.src]);
    precisions.resize(graph.layers.size(), Precision::fp32);
    for (std::size_t i = 0; i < graph.layers.size(); ++i)
      if (graph.layers[i].is<Linear>()) precisions[i] = precision;
    flow = plan_flow(graph, precisions);
  }
  /// Of the first layers; the rest are empty.
  std::vector<Parameters> parameters(std::size_t layers) const {
    std::vector<Parameters> all(graph.layers.size());
    TensorReader reader(*weights);
    for (std::size_t i = 0; i < layers; ++i)
      all[i] = load_parameters(graph.layers[i], precisions[i], reader, 1);
    return all;
  }
  std::size_t values(int value) const {
    return std::size_t(sizes[value].pixels()) * std::size_t(graph.values[value].channels);
  }

  Architecture architecture;
  Graph graph;
  std::vector<MapSize> sizes;
  std::unique_ptr<WeightSource> weights;
  std::vector<Precision> precisions;
  std::vector<LayerFlow> flow;
};

/// Each layer over whole maps.
std::vector<float> whole(const Stem& stem, const std::vector<Parameters>& parameters, std::size_t layers,
                         const std::vector<float>& image, const StepOptions& options) {
  std::vector<float> src = image;
  for (std::size_t i = 0; i < layers; ++i) {
    const Layer& layer = stem.graph.layers[i];
    const auto step = prepare_step(layer, parameters[i], stem.sizes[layer.src], {stem.flow[i]}, options);
    core::Buffer<char> scratch(step->scratch_bytes() + 1);
    std::vector<float> dst(stem.values(layer.dst));
    step->run({src.data(), dst.data(), nullptr, nullptr, scratch.data()});
    src = std::move(dst);
  }
  return src;
}

void compare(const Stem& stem, std::size_t l2_bytes, int threads) {
  const std::vector<Chain> chains = find_chains(stem.graph, stem.flow, stem.sizes, l2_bytes);
  ASSERT_FALSE(chains.empty());
  const Chain& chain = chains.front();
  ASSERT_EQ(chain.first, 0u);
  ASSERT_EQ(chain.end, 4u) << "convolution, depthwise, pointwise, depthwise";
  ASSERT_GE(chain.bands, 2);
  const std::vector<Parameters> parameters = stem.parameters(chain.end);
  StepOptions options;
  options.numerics = depthwise::Numerics::exact;
  options.fixed_order = true;
  options.threads = threads;
  std::vector<float> image(stem.values(0));
  std::mt19937 random(1);
  for (float& value : image) value = std::uniform_real_distribution<float>(-1, 1)(random);
  const std::vector<float> wanted = whole(stem, parameters, chain.end, image, options);

  const BandedSteps banded(stem.graph, parameters, stem.sizes, stem.flow, chain, options);
  core::Buffer<char> scratch(banded.scratch_bytes());
  for (char& byte : scratch) byte = char(0xff);  // NaNs
  std::vector<float> got(wanted.size(), NAN);
  std::vector<double> seconds;
  banded.run({image.data(), got.data(), nullptr, nullptr, scratch.data()}, &seconds);
  EXPECT_EQ(got, wanted) << chain.bands << " bands of " << chain.rows << " rows";
  EXPECT_EQ(seconds.size(), 4u);
  std::fill(got.begin(), got.end(), NAN);
  banded.run({image.data(), got.data(), nullptr, nullptr, scratch.data()}, nullptr);
  EXPECT_EQ(got, wanted) << "without seconds";
}

TEST(Bands, AStemInBandsHasTheBitsOfOneOverWholeMaps) {
  // Bands of one size, a last one that is smaller, several images, maps that are not square.
  for (const MapSize& size : {MapSize{1, 128, 64}, MapSize{2, 104, 96}, MapSize{3, 136, 56}})
    for (const std::size_t l2_bytes : {std::size_t{64} << 10, std::size_t{100} << 10})
      for (const int threads : {1, 2}) {
        SCOPED_TRACE(testing::Message() << size.batch << "x" << size.height << "x" << size.width << " l2 "
                                        << l2_bytes << " threads " << threads);
        compare(Stem("replknet-test", size), l2_bytes, threads);
      }
}

TEST(Bands, NarrowProductsAreInThemToo) {
  compare(Stem("replknet-test", {1, 128, 64}, Precision::bf16), std::size_t{90} << 10, 1);
}

TEST(Bands, RowsOfABandAreThoseThatItsResultIsMadeOf) {
  const Stem stem("replknet-31b", {1, 224, 224});
  const std::vector<Chain> chains = find_chains(stem.graph, stem.flow, stem.sizes, std::size_t{2} << 20);
  ASSERT_FALSE(chains.empty());
  ASSERT_EQ(chains[0].rows, 4);
  ASSERT_EQ(chains[0].bands, 14);
  const auto text = [&](int band) {
    std::string all;
    for (const BandRows& rows : rows_of_band(stem.graph, stem.sizes, chains[0], band))
      all += std::to_string(rows.begin) + "-" + std::to_string(rows.end) + "+" +
             std::to_string(rows.padding.before) + "+" + std::to_string(rows.padding.after) + " ";
    return all;
  };
  EXPECT_EQ(text(0), "0-18+1+0 0-9+1+0 0-8+0+0 0-8+1+0 0-4+0+0 ");
  EXPECT_EQ(text(1), "11-34+0+0 6-17+0+0 7-16+0+0 7-16+0+0 4-8+0+0 ");
  EXPECT_EQ(text(13), "203-224+0+0 102-112+0+1 103-112+0+0 103-112+0+0 52-56+0+0 ");
}

TEST(Bands, ThereAreNoneWhereMapsFitOrCannotBeCut) {
  const Stem small("replknet-test", {1, 64, 64});
  EXPECT_TRUE(find_chains(small.graph, small.flow, small.sizes, std::size_t{2} << 20).empty());
  // Not even two rows would fit.
  const Stem wide("replknet-test", {1, 128, 4096});
  for (const Chain& chain : find_chains(wide.graph, wide.flow, wide.sizes, std::size_t{64} << 10))
    EXPECT_NE(chain.first, 0u);
  // What is read twice stays whole: the residual stream, and the stages' maps.
  const Stem stem("replknet-31b", {1, 224, 224});
  for (const Chain& chain : find_chains(stem.graph, stem.flow, stem.sizes, std::size_t{1} << 20))
    for (std::size_t i = chain.first; i + 1 < chain.end; ++i)
      for (const Layer& layer : stem.graph.layers) {
        EXPECT_NE(layer.residual, stem.graph.layers[i].dst) << layer.name;
        for (const Stage& stage : stem.graph.stages) EXPECT_NE(stage.value, stem.graph.layers[i].dst);
      }
}

/// What is observed runs layer by layer: the same numbers, from the same arena.
TEST(Bands, ANetworkGivesTheSameWithAndWithoutThem) {
  const Architecture architecture = find_architecture("replknet-test");
  for (const Precision precision : {Precision::fp32, Precision::bf16, Precision::int8}) {
    NetworkOptions options;
    options.threads = 2;
    options.precision = precision;
    Network network(architecture, *seeded_weights(architecture, 1), options);
    constexpr int side = 768;
    std::vector<float> image(3 * side * side), logits(network.classes()), wanted(network.classes());
    std::mt19937 random(1);
    for (float& value : image) value = std::uniform_real_distribution<float>(-1, 1)(random);
    const Input input{image.data(), 1, side, side};
    Profile profile;
    const std::function<void(int, const float*, std::int64_t)> observe = [](int, const float*, std::int64_t) {
    };
    for (int run = 0; run < 2; ++run) {  // the second one finds what the first has left in the arena
      network.run(input, {.logits = wanted.data(), .features = {}}, {.observe = &observe});
      network.run(input, {.logits = logits.data(), .features = {}}, {.profile = &profile});
      EXPECT_EQ(logits, wanted) << name(precision);
    }
    int banded = 0;
    for (const LayerProfile& layer : profile.layers)
      banded += layer.choice.find(" bands=") != std::string::npos;
    EXPECT_EQ(profile.layers.size(), build_graph(architecture, network.classes()).layers.size());
    if (banded == 0) GTEST_SKIP() << "the L2 of this CPU holds every map of " << side << " pixels a side";
    // The stem, and the first transition, whose source lies in the arena.
    EXPECT_GE(banded, 6) << name(precision);
  }
}

}  // namespace
}  // namespace replk::model
