#include "model/network.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <atomic>
#include <cmath>
#include <cstdlib>
#include <thread>

#include "allocations.hpp"
#include "changed_source.hpp"
#include "core/error.hpp"
#include "core/log.hpp"
#include "goldens.hpp"

namespace replk::model {
namespace {

std::vector<float> image(std::int64_t batch, int height, int width, int seed = 0) {
  std::vector<float> pixels(static_cast<std::size_t>(batch * height * width * 3));
  for (std::size_t i = 0; i < pixels.size(); ++i)
    pixels[i] = std::sin(0.37f * static_cast<float>(i % 9973) + static_cast<float>(seed));
  return pixels;
}

Network nano(int threads = 0) {
  const Architecture architecture = find_architecture("replknet-test");
  NetworkOptions options;
  options.threads = threads;
  return Network(architecture, *seeded_weights(architecture, 1), options);
}

std::vector<float> logits_of(Network& network, std::int64_t batch, int height, int width,
                             const std::vector<float>& pixels) {
  std::vector<float> logits(static_cast<std::size_t>(batch) * network.classes());
  network.run({pixels.data(), batch, height, width}, {logits.data(), {}});
  return logits;
}

std::string message_of(const WeightSource& source) {
  try {
    Network network(golden_architecture("replknet"), source);
  } catch (const core::Error& error) {
    EXPECT_EQ(error.status(), core::Status::bad_file);
    return error.what();
  }
  return "";
}

TEST(Network, ASecondRunAllocatesNothing) {
  if (!allocations::can_count) GTEST_SKIP() << "the sanitizer owns malloc";
  Network network = nano();
  const std::vector<float> pixels = image(2, 64, 96);
  std::vector<float> logits(2 * 1000);
  std::array<std::vector<float>, 4> features;
  Output output{logits.data(), {}};
  for (int s = 0; s < 4; ++s) {
    const FeatureShape shape = network.feature_shape(s, 64, 96);
    features[s].resize(std::size_t{2} * shape.channels * shape.height * shape.width);
    output.features[s] = features[s].data();
  }
  network.run({pixels.data(), 2, 64, 96}, output);
  allocations::start();
  network.run({pixels.data(), 2, 64, 96}, output);
  EXPECT_EQ(allocations::stop(), 0);
  allocations::start();
  network.prepare(1, 64, 64);
  EXPECT_GT(allocations::stop(), 0) << "the counter itself does not count";
}

// Up to rounding: which plan a layer has may depend on batch and threads. Where it does not, bits are the
// same (precision_test, Int8.BitsDoNotDependOnThreadsOrBatch).
TEST(Network, ABatchIsItsImagesOnTwoThreadsAndOnOne) {
  const std::vector<float> a = image(1, 40, 50, 1), b = image(1, 40, 50, 2);
  std::vector<float> both = a;
  both.insert(both.end(), b.begin(), b.end());
  Network two = nano(2);
  const std::vector<float> expected = logits_of(two, 2, 40, 50, both);
  double largest = 0;
  for (float value : expected) largest = std::max(largest, std::abs(double(value)));
  ASSERT_GT(largest, 0);
  const auto expect_near = [&](const std::vector<float>& found, std::size_t image) {
    for (std::size_t i = 0; i < found.size(); ++i)
      ASSERT_NEAR(found[i], expected[image * 1000 + i], 1e-5 * largest) << "logit " << i;
  };
  for (const int threads : {1, 2}) {
    SCOPED_TRACE(threads);
    Network network = nano(threads);
    expect_near(logits_of(network, 2, 40, 50, both), 0);
    const std::vector<float> first = logits_of(network, 1, 40, 50, a);
    expect_near(first, 0);
    expect_near(logits_of(network, 1, 40, 50, b), 1);
    EXPECT_EQ(first, logits_of(network, 1, 40, 50, a)) << "the same run twice";
  }
}

TEST(Network, AStemOfStrideTwoAndItsSmallestSide) {
  const Architecture architecture = find_architecture("replknet-nano");
  Network network(architecture, *seeded_weights(architecture, 1));
  EXPECT_EQ(network.classes(), 10);
  const int sides[] = {14, 7, 4, 2};
  for (int s = 0; s < 4; ++s) {
    const FeatureShape shape = network.feature_shape(s, 28, 28);
    EXPECT_EQ(shape.channels, architecture.channels[s]);
    EXPECT_EQ(shape.height, sides[s]);
    EXPECT_EQ(shape.width, sides[s]);
  }
  for (float value : logits_of(network, 1, 16, 16, image(1, 16, 16))) EXPECT_TRUE(std::isfinite(value));
  EXPECT_THROW(network.prepare(1, 15, 28), core::Error);
  EXPECT_THROW(network.prepare(1, 28, 15), core::Error);
  EXPECT_THROW(nano().prepare(1, 31, 32), core::Error);
}

TEST(Network, ManySizesOneAfterAnother) {
  Network network = nano();
  const std::vector<float> pixels = image(1, 32, 32);
  const std::vector<float> first = logits_of(network, 1, 32, 32, pixels);
  for (auto [height, width] : {std::pair{33, 47}, {64, 32}, {32, 100}, {51, 51}, {96, 35}})
    for (float value : logits_of(network, 1, height, width, image(1, height, width)))
      EXPECT_TRUE(std::isfinite(value));
  EXPECT_EQ(first, logits_of(network, 1, 32, 32, pixels)) << "planned anew after it was dropped";
}

TEST(Network, RunsFromManyThreadsAtOnce) {
  Network network = nano(1);
  const std::vector<float> a = image(1, 48, 48, 1), b = image(1, 64, 40, 2);
  const std::vector<float> of_a = logits_of(network, 1, 48, 48, a), of_b = logits_of(network, 1, 64, 40, b);
  std::vector<std::thread> threads;
  std::atomic<int> wrong{0};
  for (int t = 0; t < 4; ++t)
    threads.emplace_back([&, t] {
      for (int i = 0; i < 3; ++i)
        wrong += t % 2 ? logits_of(network, 1, 48, 48, a) != of_a : logits_of(network, 1, 64, 40, b) != of_b;
    });
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(wrong, 0);
}

TEST(Network, AnyAlignmentOfPixels) {
  Network network = nano();
  const std::vector<float> pixels = image(1, 37, 41);
  std::vector<float> moved(pixels.size() + 1);
  std::copy(pixels.begin(), pixels.end(), moved.begin() + 1);
  std::vector<float> logits(1000);
  network.run({moved.data() + 1, 1, 37, 41}, {logits.data(), {}});
  EXPECT_EQ(logits, logits_of(network, 1, 37, 41, pixels));
}

TEST(Network, ProfileCountsThePapersMultiplyAdds) {
  // As models.md counts 31B's 15.3535 GMAC at 224.
  Network network = nano();
  const std::vector<float> pixels = image(1, 64, 64);
  std::vector<float> logits(1000);
  Profile profile;
  RunOptions options;
  options.profile = &profile;
  network.run({pixels.data(), 1, 64, 64}, {logits.data(), {}}, options);
  // Stage 1 at 16x16x16 with 31x31, and so on: merged kernels, every tap counted.
  const double large = 256.0 * 16 * 961 + 64.0 * 32 * 841 + 2 * 16.0 * 64 * 729 + 4.0 * 128 * 169;
  EXPECT_DOUBLE_EQ(profile.macs(LayerKind::large_depthwise), large);
  // The stem at 32x32 and 16x16, and what halves the map between stages.
  EXPECT_DOUBLE_EQ(profile.macs(LayerKind::small_depthwise),
                   9 * (1024.0 * 16 + 256.0 * 16 + 64.0 * 32 + 16.0 * 64 + 4.0 * 128));
  EXPECT_DOUBLE_EQ(profile.macs(LayerKind::dense_conv), 1024.0 * 16 * 27);
  // Of a block two of C x C and two of C x 4C; between stages C x 2C.
  EXPECT_DOUBLE_EQ(profile.macs(LayerKind::pointwise),
                   10 * (256.0 * 16 * 16 + 64.0 * 32 * 32 + 2 * 16.0 * 64 * 64 + 4.0 * 128 * 128) +
                       1024.0 * 16 * 16 + 256.0 * 16 * 32 + 64.0 * 32 * 64 + 16.0 * 64 * 128 + 128 * 1000.0);
  EXPECT_GT(profile.seconds(), 0);
  double sum = 0;
  for (int kind = 0; kind < layer_kinds; ++kind) {
    EXPECT_DOUBLE_EQ(profile.macs(static_cast<LayerKind>(kind)),
                     network.macs(64, 64, static_cast<LayerKind>(kind)));
    sum += profile.seconds(static_cast<LayerKind>(kind));
  }
  EXPECT_NEAR(sum, profile.seconds(), 1e-9);
  for (const LayerProfile& layer : profile.layers) EXPECT_FALSE(layer.name.empty() || layer.choice.empty());
}

TEST(Network, WrongSizesAreNamed) {
  Network network = nano();
  std::vector<float> pixels(3), logits(1000);
  for (const Input& input :
       {Input{pixels.data(), 1, 31, 32}, Input{pixels.data(), 1, 32, 16385}, Input{pixels.data(), 0, 32, 32},
        Input{pixels.data(), 1ll << 60, 32, 32}, Input{nullptr, 1, 32, 32}})
    EXPECT_THROW(network.run(input, {logits.data(), {}}), core::Error);
}

TEST(Network, CancelStopsARunAndALoad) {
  Network network = nano();
  const std::vector<float> pixels = image(1, 32, 32);
  std::vector<float> logits(1000);
  std::atomic<bool> cancel{true};
  RunOptions options;
  options.cancel = &cancel;
  EXPECT_THROW(network.run({pixels.data(), 1, 32, 32}, {logits.data(), {}}, options), core::Error);
  cancel = false;
  network.run({pixels.data(), 1, 32, 32}, {logits.data(), {}}, options);

  NetworkOptions load;
  double last = -1;
  load.progress = [&](double fraction) {
    EXPECT_GE(fraction, last);
    last = fraction;
    return true;
  };
  Network(golden_architecture("replknet"), *open_safetensors(golden("replknet")), load);
  EXPECT_EQ(last, 1.0);
  load.progress = [](double fraction) { return fraction < 0.5; };
  try {
    Network(golden_architecture("replknet"), *open_safetensors(golden("replknet")), load);
    FAIL() << "not cancelled";
  } catch (const core::Error& error) {
    EXPECT_EQ(error.status(), core::Status::cancelled);
  }
}

TEST(Network, MissingAndMisshapenTensorsAreNamed) {
  const std::string key = "stages.1.blocks.0.pw1.conv.weight";
  ChangedSource source("replknet");
  source.tensors.erase(key);
  std::string message = message_of(source);
  EXPECT_NE(message.find(key), std::string::npos) << message;
  EXPECT_NE(message.find("missing"), std::string::npos) << message;

  ChangedSource misshapen("replknet");
  misshapen.tensors[key] = {{12, 13, 1, 1}, std::vector<float>(156)};
  message = message_of(misshapen);
  EXPECT_NE(message.find("[12, 13, 1, 1] found"), std::string::npos) << message;
  EXPECT_NE(message.find("[12, 12, 1, 1] wanted"), std::string::npos) << message;

  ChangedSource no_bn("replknet");
  for (const char* field : {"weight", "bias", "running_mean", "running_var"})
    no_bn.tensors.erase(std::string("stem.0.bn.") + field);
  EXPECT_NE(message_of(no_bn).find("stem.0.bn.weight"), std::string::npos);

  ChangedSource negative("replknet");
  negative.tensors["stem.0.bn.running_var"].second[3] = -1;
  EXPECT_NE(message_of(negative).find("running_var'[3]"), std::string::npos);

  ChangedSource half_a_head("replknet");
  half_a_head.tensors.erase("head.weight");
  EXPECT_NE(message_of(half_a_head).find("head.weight"), std::string::npos);
}

TEST(Network, WithoutAHeadThereAreFeaturesOnly) {
  ChangedSource source("replknet");
  source.tensors.erase("head.weight");
  source.tensors.erase("head.bias");
  Network network(golden_architecture("replknet"), source);
  EXPECT_EQ(network.classes(), 0);
  const std::vector<float> pixels = image(1, 32, 32);
  std::vector<float> logits(10), stage(24);
  EXPECT_THROW(network.run({pixels.data(), 1, 32, 32}, {logits.data(), {}}), core::Error);
  network.run({pixels.data(), 1, 32, 32}, {nullptr, {nullptr, nullptr, nullptr, stage.data()}});
  EXPECT_NE(stage, std::vector<float>(24));
}

TEST(Network, FusedFormHasBiasesInThePlaceOfBatchNorms) {
  ChangedSource train("replknet"), fused("replknet");
  // stem.0 by hand, as deep_fuse_BN does.
  auto& weight = fused.tensors["stem.0.conv.weight"].second;
  std::vector<float> bias(8);
  for (int c = 0; c < 8; ++c) {
    const auto of = [&](const char* field) {
      return double(train.tensors[std::string("stem.0.bn.") + field].second[c]);
    };
    const double scale = of("weight") / std::sqrt(of("running_var") + 1e-5);
    for (int i = 0; i < 27; ++i) weight[c * 27 + i] = static_cast<float>(weight[c * 27 + i] * scale);
    bias[c] = static_cast<float>(of("bias") - of("running_mean") * scale);
  }
  for (const char* field : {"weight", "bias", "running_mean", "running_var"})
    fused.tensors.erase(std::string("stem.0.bn.") + field);
  fused.tensors["stem.0.conv.bias"] = {{8}, bias};
  const Architecture architecture = golden_architecture("replknet");
  Network a(architecture, train), b(architecture, fused);
  const std::vector<float> pixels = image(1, 32, 32);
  EXPECT_EQ(logits_of(a, 1, 32, 32, pixels), logits_of(b, 1, 32, 32, pixels));
}

TEST(Network, UnknownTensorsAreWarnedOf) {
  ChangedSource source("replknet");
  source.tensors["a.stranger"] = {{1}, {0.0f}};
  std::string log;
  core::set_log_callback(
      [](core::LogLevel, const char* message, void* user) { *static_cast<std::string*>(user) += message; },
      &log);
  Network network(golden_architecture("replknet"), source);
  core::set_log_callback(nullptr, nullptr);
  EXPECT_NE(log.find("a.stranger"), std::string::npos) << log;
}

}  // namespace
}  // namespace replk::model
