// Networks in bf16 and int8: against PyTorch in double, from files and made while loading, and files that
// lie.
#include "model/precision.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <filesystem>
#include <functional>

#include "changed_source.hpp"
#include "core/error.hpp"
#include "core/features.hpp"
#include "goldens.hpp"
#include "model/calibrate.hpp"
#include "model/flow.hpp"
#include "model/network.hpp"
#include "model/quantise_network.hpp"
#include "model/stored_layer.hpp"

namespace replk::model {
namespace {

struct Results {
  std::vector<float> logits;
  std::array<std::vector<float>, 4> stages;
};

Results run(Network& network, const GoldenInput& input) {
  Results results;
  results.logits.resize(static_cast<std::size_t>(input.batch) * network.classes());
  Output output{results.logits.data(), {}};
  for (int s = 0; s < 4; ++s) {
    const FeatureShape shape = network.feature_shape(s, input.height, input.width);
    results.stages[s].resize(static_cast<std::size_t>(input.batch) * shape.channels * shape.height *
                             shape.width);
    output.features[s] = results.stages[s].data();
  }
  network.run({input.pixels.data(), input.batch, input.height, input.width}, output);
  return results;
}

/// Largest difference over the largest expected value.
double difference(const std::vector<float>& found, const std::vector<float>& expected) {
  EXPECT_EQ(found.size(), expected.size());
  double difference = 0, largest = 0;
  for (std::size_t i = 0; i < found.size(); ++i) {
    if (std::isnan(found[i])) return INFINITY;
    difference = std::max(difference, std::abs(double(found[i]) - expected[i]));
    largest = std::max(largest, std::abs(double(expected[i])));
  }
  return difference / largest;
}

double difference_from_golden(Network& network, const std::string& name) {
  const GoldenInput input = golden_input();
  const SafetensorsFile expected(golden(name + ".expected"));
  const Results results = run(network, input);
  double worst = difference(results.logits, read_all(expected, "logits"));
  for (int s = 0; s < 4; ++s)
    worst =
        std::max(worst, difference(results.stages[s], read_all(expected, "stage" + std::to_string(s + 1))));
  return worst;
}

NetworkOptions in(Precision precision, depthwise::Numerics numerics = depthwise::Numerics::fast) {
  NetworkOptions options;
  options.precision = precision;
  options.numerics = numerics;
  return options;
}

Architecture with_classes(const std::string& name) {
  Architecture architecture = golden_architecture(name);
  architecture.classes = 10;
  return architecture;
}

QuantisedNetwork quantised(const std::string& name) {
  return quantise_network(with_classes(name), *open_safetensors(golden(name)));
}

/// The widths of a network that is used, a block a stage: in layers of eight channels, as the goldens have
/// them, errors do not average.
Architecture shallow(const std::string& name) {
  Architecture architecture = find_architecture(name);
  if (architecture.depths.size() == 4) architecture.depths = {1, 1, 1, 1};
  architecture.classes = 10;
  return architecture;
}

GoldenInput noise(int seed) {
  GoldenInput input{1, 64, 64, std::vector<float>(3 * 64 * 64)};
  for (std::size_t i = 0; i < input.pixels.size(); ++i)
    input.pixels[i] = 2 * std::sin(0.37f * static_cast<float>(i * i % 9973) + static_cast<float>(seed));
  return input;
}

QuantisedNetwork calibrated(const Architecture& architecture, const WeightSource& weights) {
  Network network(architecture, weights, in(Precision::fp32));
  Calibration calibration(network, weights, 4);
  for (int seed = 1; seed <= 4; ++seed) {
    const GoldenInput image = noise(seed);
    calibration.add({image.pixels.data(), 1, image.height, image.width});
  }
  QuantiseOptions options;
  options.seen = calibration.result();
  return quantise_network(architecture, weights, options);
}

class PrecisionOfFamilies : public testing::TestWithParam<std::string> {
 protected:
  const Architecture architecture_ = shallow(GetParam());
  const std::unique_ptr<WeightSource> weights_ = seeded_weights(architecture_, 1);

  /// The worst of logits and stages against fp32, which parity_test holds to 1e-5 of double.
  double worst(Network& narrow) {
    Network wide(architecture_, *weights_, in(Precision::fp32));
    const GoldenInput input = noise(0);
    const Results expected = run(wide, input), found = run(narrow, input);
    double worst = difference(found.logits, expected.logits);
    for (int s = 0; s < 4; ++s) worst = std::max(worst, difference(found.stages[s], expected.stages[s]));
    RecordProperty("worst", std::to_string(worst));
    return worst;
  }
};

// What is allowed of a whole network; and not so little that no layer can have been narrow.
TEST_P(PrecisionOfFamilies, Bf16WithinAHundredth) {
  Network network(architecture_, *weights_, in(Precision::bf16));
  EXPECT_EQ(network.precision(), Precision::bf16);
  const double found = worst(network);
  EXPECT_GT(found, 1e-4);
  EXPECT_LE(found, 1e-2);
}

TEST_P(PrecisionOfFamilies, Int8OfImagesWithinFiveHundredths) {
  Network network(architecture_, calibrated(architecture_, *weights_).tensors);
  EXPECT_EQ(network.precision(), Precision::int8);
  const double found = worst(network);
  EXPECT_GT(found, 1e-3);
  EXPECT_LE(found, 5e-2);
}

// Of layer norms, which have their statistics from their input whatever the weights are, or of noise.
TEST_P(PrecisionOfFamilies, Int8WithoutImagesWithinFiveHundredths) {
  Network network(architecture_, *weights_, in(Precision::int8));
  const double found = worst(network);
  EXPECT_LE(found, 5e-2);
  EXPECT_GT(found, 1e-3);
}

TEST_P(PrecisionOfFamilies, Int8LayersAreInt8) {
  const Architecture architecture = shallow(GetParam());
  int narrow = 0, all = 0;
  for (const LayerPrecision& layer :
       quantise_network(architecture, *seeded_weights(architecture, 1)).layers) {
    if (layer.precision == Precision::fp32) continue;  // the head, and MobileNetV2's thin layers
    ++all;
    narrow += layer.precision == Precision::int8;
    EXPECT_LE(layer.error, int8_error_limit) << layer.layer << ": " << layer.reason;
  }
  EXPECT_EQ(narrow, all);
}

INSTANTIATE_TEST_SUITE_P(Families, PrecisionOfFamilies,
                         testing::Values("replknet-31b", "slak-t", "convnext-t", "unireplknet-a",
                                         "mobilenetv2"),
                         [](const auto& info) {
                           std::string name = info.param;
                           std::replace(name.begin(), name.end(), '-', '_');
                           return name;
                         });

/// A file that goes when the test ends.
class TemporaryFile {
 public:
  TemporaryFile() : path_(testing::TempDir() + "int8_" + std::to_string(::getpid()) + ".safetensors") {}
  ~TemporaryFile() { std::filesystem::remove(path_); }
  const std::string& path() const { return path_; }

 private:
  std::string path_;
};

TEST(Int8, TheFileIsWhatLoadingMakes) {
  const GoldenInput input = golden_input();
  for (const std::string name : {"replknet", "unireplknet", "slak", "mobilenetv2"}) {
    Network made(golden_architecture(name), *open_safetensors(golden(name)), in(Precision::int8));
    const TemporaryFile file;
    quantised(name).tensors.write(file.path());
    Network read(golden_architecture(name), *open_safetensors(file.path()));
    EXPECT_EQ(read.precision(), Precision::int8);
    const Results a = run(made, input), b = run(read, input);
    EXPECT_EQ(a.logits, b.logits) << name;
    EXPECT_EQ(a.stages, b.stages) << name;
  }
}

TEST(Int8, BitsDoNotDependOnThreadsOrBatch) {
  const GoldenInput input = golden_input();
  GoldenInput first = input;
  first.batch = 1;
  first.pixels.resize(input.pixels.size() / 2);
  NetworkOptions options = in(Precision::int8, depthwise::Numerics::exact);
  std::vector<Results> results;
  for (options.threads = 1; options.threads <= 3; ++options.threads) {
    Network network(golden_architecture("replknet"), *open_safetensors(golden("replknet")), options);
    results.push_back(run(network, input));
    const Results alone = run(network, first);
    EXPECT_TRUE(std::equal(alone.logits.begin(), alone.logits.end(), results.back().logits.begin()));
    EXPECT_EQ(results.front().logits, results.back().logits) << options.threads;
    EXPECT_EQ(results.front().stages, results.back().stages) << options.threads;
  }
}

TEST(Int8, AnInt8FileHasNoOtherPrecision) {
  const QuantisedNetwork made = quantised("replknet");
  for (const Precision other : {Precision::fp32, Precision::bf16}) try {
      Network network(golden_architecture("replknet"), made.tensors, in(other));
      ADD_FAILURE() << "computed int8 weights in " << name(other);
    } catch (const core::Error& error) {
      EXPECT_EQ(error.status(), core::Status::invalid_argument);
      EXPECT_NE(std::string(error.what()).find(name(other)), std::string::npos) << error.what();
    }
  EXPECT_THROW(quantise_network(with_classes("replknet"), made.tensors), core::Error);
}

TEST(Precision, Bf16x3NeedsAmxAndSaysSo) {
  const auto load = [] {
    Network network(golden_architecture("replknet"), *open_safetensors(golden("replknet")),
                    in(Precision::bf16x3));
    return difference_from_golden(network, "replknet");
  };
  if (core::features().has(Feature::amx_tile | Feature::amx_bf16)) {
    try {
      EXPECT_LE(load(), 1e-4);
      return;
    } catch (const core::Error& error) {
      EXPECT_EQ(error.status(), core::Status::unsupported) << "no engine has it yet: " << error.what();
      return;
    }
  }
  try {
    load();
    ADD_FAILURE() << "computed without AMX";
  } catch (const core::Error& error) {
    EXPECT_EQ(error.status(), core::Status::unsupported);
    EXPECT_NE(std::string(error.what()).find("amx"), std::string::npos) << error.what();
  }
}

TEST(Precision, HiddenTensorsAreNarrowOnly) {
  const Graph graph = build_graph(find_architecture("replknet-test"), 10);
  std::vector<Precision> precision;
  for (const bool narrow : narrow_layers(graph))
    precision.push_back(narrow ? Precision::int8 : Precision::fp32);
  const std::vector<LayerFlow> flow = plan_flow(graph, precision);
  int hidden = 0;
  for (std::size_t i = 0; i < graph.layers.size(); ++i) {
    const Layer& layer = graph.layers[i];
    if (layer.activation == Activation::gelu) {  // between the two layers of a feedforward block
      EXPECT_FALSE(flow[i].result) << layer.name;
      EXPECT_EQ(without_order(flow[i].copy), Element::u8) << layer.name;
      ++hidden;
    }
    if (const auto* depthwise = layer.as<Depthwise>()) {  // the stem's stay as they are
      const bool large = depthwise->kind() == LayerKind::large_depthwise;
      EXPECT_EQ(flow[i].src, large ? Element::bf16 : Element::f32) << layer.name;
      EXPECT_EQ(flow[i].copy, large ? Element::u8 : Element::f32) << layer.name;
      EXPECT_EQ(flow[i].result, !large) << layer.name;
    }
    if (layer.residual >= 0) {
      EXPECT_TRUE(flow[i].result) << layer.name;
    }
  }
  EXPECT_EQ(hidden, 5);
}

TEST(Precision, ALargeDepthwiseLayerWritesWhatAloneReadsIt) {
  const Graph graph = build_graph(find_architecture("replknet-test"), 10);
  struct Case {
    Precision precision;
    bool from_zero;
    Element src, copy;
  };
  for (const Case& c : {Case{Precision::bf16, true, Element::f32, Element::bf16},
                        Case{Precision::int8, true, Element::bf16, Element::u8},
                        Case{Precision::int8, false, Element::f32, Element::f32},  // a ReLU is no clamp to u8
                        Case{Precision::bf16x3, true, Element::f32, Element::f32},
                        Case{Precision::fp32, true, Element::f32, Element::f32}}) {
    std::vector<Precision> precision;
    for (const bool narrow : narrow_layers(graph))
      precision.push_back(narrow ? c.precision : Precision::fp32);
    const std::vector<LayerFlow> flow = plan_flow(graph, precision, [&](int) { return c.from_zero; });
    int large = 0;
    for (std::size_t i = 0; i < graph.layers.size(); ++i) {
      const auto* depthwise = graph.layers[i].as<Depthwise>();
      if (!depthwise || depthwise->kind() != LayerKind::large_depthwise) continue;
      EXPECT_EQ(flow[i].src, c.src) << name(c.precision) << " " << graph.layers[i].name;
      EXPECT_EQ(flow[i].copy, c.copy) << name(c.precision) << " " << graph.layers[i].name;
      EXPECT_EQ(flow[i].result, c.copy == Element::f32);
      ++large;
    }
    EXPECT_EQ(large, 5);
  }
}

TEST(Int8, ALayerThatEightBitsDoNotHoldStaysBf16) {
  // One input a thousand times the others: of what is left of the eight bits nothing remains.
  FoldedDense folded{core::Buffer<float>(4 * 64), core::Buffer<float>(4, true)};
  InputKnowledge knowledge;
  knowledge.channels = normal_channels(std::vector<double>(64, 0.0), std::vector<double>(64, 1.0));
  for (std::size_t i = 0; i < 4 * 64; ++i) folded.weights[i] = i % 64 ? 0.01f : 0.0f;
  for (std::size_t o = 0; o < 4; ++o) folded.weights[o * 64 + o] = 1.0f;
  const double even = quantise_linear(folded, {}, knowledge, 1).error;
  // The same layer where one weight is far above all and its input nearly still.
  for (std::size_t o = 0; o < 4; ++o) folded.weights[o * 64 + 63] = 1000.0f;
  knowledge.channels = normal_channels(std::vector<double>(64, 0.0), [] {
    std::vector<double> deviation(64, 1.0);
    deviation[63] = 1e-3;
    return deviation;
  }());
  const double balanced = quantise_linear(folded, {}, knowledge, 1).error;
  EXPECT_LE(even, int8_error_limit);
  EXPECT_LE(balanced, int8_error_limit) << "a channel's factor moves into the weights";
  for (std::size_t o = 0; o < 4; ++o)
    for (std::size_t i = 0; i < 64; ++i) folded.weights[o * 64 + i] = i % 2 ? 1.0f : 0.003f;
  std::vector<double> deviation(64);
  for (std::size_t i = 0; i < 64; ++i) deviation[i] = i % 2 ? 0.002 : 1.0;
  knowledge.channels = normal_channels(std::vector<double>(64, 0.0), deviation);
  for (std::size_t i = 1; i < 64; i += 2) {  // a range far beyond what ever comes
    knowledge.channels.low[i] = -1000;
    knowledge.channels.high[i] = 1000;
  }
  EXPECT_GT(quantise_linear(folded, {}, knowledge, 1).error, int8_error_limit);
}

/// A network's tensors with its depthwise layers merged, so that no norm stands behind them.
ChangedSource merged_depthwise(const Architecture& architecture, const WeightSource& source) {
  ChangedSource merged(source);
  TensorReader reader(source);
  for (const Layer& layer : build_graph(architecture, architecture.classes).layers) {
    const Depthwise* depthwise = layer.as<Depthwise>();
    if (!depthwise || depthwise->merged.weight.empty()) continue;
    const FoldedDepthwise folded = fold_depthwise(*depthwise, layer.outputs, reader, 1);
    for (const ConvTensors& tensors : depthwise->tensors)
      std::erase_if(merged.tensors, [&](const auto& tensor) {
        return tensor.first == tensors.weight || tensor.first.starts_with(tensors.batch_norm + ".");
      });
    const auto set = [&](const std::string& name, Shape shape, const core::Buffer<float>& values) {
      merged.tensors[name] = {std::move(shape), {values.begin(), values.end()}};
    };
    set(depthwise->merged.weight, depthwise->merged.shape, folded.weights.at(0));
    set(depthwise->merged.bias, {layer.outputs}, folded.bias);
  }
  return merged;
}

// Without batch norms nothing is known of what a depthwise layer gives: only images tell.
TEST(Int8, CalibrationKnowsWhatTheNormsDoNot) {
  Architecture nano = find_architecture("replknet-nano");
  const auto trained = open_safetensors(REPLK_MODELS "/replknet-nano.safetensors");
  nano = as_stored(nano, *trained);
  const QuantisedNetwork unknown = quantise_network(nano, merged_depthwise(nano, *trained));
  EXPECT_EQ(unknown.tensors.metadata("calibration"), "batch and layer norms");
  int wide = 0;
  for (const LayerPrecision& layer : unknown.layers)
    if (layer.precision == Precision::bf16) {
      ++wide;
      EXPECT_NE(layer.reason.find("images"), std::string::npos) << layer.reason;
    }
  EXPECT_GT(wide, 0);

  const std::string name = "replknet_merged";
  const auto source = open_safetensors(golden(name));
  const GoldenInput input = golden_input();
  Network network(golden_architecture(name), *source);
  Calibration calibration(network, *source, 2);
  for (int image = 0; image < 2; ++image)
    calibration.add({input.pixels.data() + image * input.pixels.size() / 2, 1, input.height, input.width});
  QuantiseOptions options;
  options.seen = calibration.result();
  const QuantisedNetwork made = quantise_network(with_classes(name), *source, options);
  for (const LayerPrecision& layer : made.layers)
    if (layer.reason != "heads stay fp32") {
      EXPECT_EQ(layer.precision, Precision::int8) << layer.layer;
    }
  Network int8(golden_architecture(name), made.tensors);
  EXPECT_TRUE(std::isfinite(difference_from_golden(int8, "replknet")));
}

// Norms are asked only where they have the statistics of the network: those of a trained one do, random ones
// not.
TEST(Int8, NormsOfAnotherNetworkAreNotBelieved) {
  const auto ranges = [](const std::string& name, const WeightSource& source) {
    const Architecture architecture = as_stored(find_architecture(name), source);
    return quantise_network(architecture, source).tensors.metadata("calibration");
  };
  EXPECT_EQ(ranges("replknet-nano", *open_safetensors(REPLK_MODELS "/replknet-nano.safetensors")),
            "batch and layer norms");
  const Architecture nano = find_architecture("replknet-nano");
  for (const int seed : {1, 2, 3}) EXPECT_EQ(ranges("replknet-nano", *seeded_weights(nano, seed)), "noise");
  const Architecture unireplknet = shallow("unireplknet-a");
  EXPECT_EQ(quantise_network(unireplknet, *seeded_weights(unireplknet, 1)).tensors.metadata("calibration"),
            "noise");
  const Architecture slak = shallow("slak-t");  // layer norms have their statistics from their input
  EXPECT_EQ(quantise_network(slak, *seeded_weights(slak, 1)).tensors.metadata("calibration"),
            "batch and layer norms");
}

// ---- files that lie ----

/// A quantised network's tensors, with some changed.
class ChangedTensors {
 public:
  struct Tensor {
    std::string dtype;
    Shape shape;
    std::vector<std::byte> bytes;
  };
  ChangedTensors() : made_(quantised("replknet")) {
    for (const std::string& name : made_.tensors.names()) {
      Tensor& tensor = all[name];
      tensor.dtype = made_.tensors.dtype(name);
      tensor.shape = *made_.tensors.shape(name);
      tensor.bytes.resize(byte_size({name, tensor.shape, nullptr, tensor.dtype}));
      made_.tensors.read_bytes(name, tensor.bytes);
    }
  }
  std::map<std::string, Tensor> all;
  std::map<std::string, std::string> metadata{{"precision", "int8"}};

  std::string message() const {
    StoredTensors tensors("lies.safetensors");
    for (const auto& [name, tensor] : all) tensors.add(name, tensor.dtype, tensor.shape, tensor.bytes.data());
    for (const auto& [key, text] : metadata) tensors.set_metadata(key, text);
    const TemporaryFile file;
    tensors.write(file.path());
    try {
      Network network(golden_architecture("replknet"), *open_safetensors(file.path()));
    } catch (const core::Error& error) {
      EXPECT_EQ(error.status(), core::Status::bad_file) << error.what();
      return error.what();
    }
    return "";
  }

 private:
  QuantisedNetwork made_;
};

TEST(Int8, FilesThatLieAreNamed) {
  EXPECT_EQ(ChangedTensors().message(), "");
  const std::string layer = "stages.1.blocks.0.pw1.conv";
  const auto refused = [](const std::function<void(ChangedTensors&)>& change, const std::string& named) {
    ChangedTensors tensors;
    change(tensors);
    const std::string message = tensors.message();
    EXPECT_NE(message.find(named), std::string::npos) << named << ": '" << message << "'";
  };
  for (const char* part : {".weight", ".multiplier", ".bias", ".input_scale", ".input_offset"})
    refused([&](ChangedTensors& t) { t.all.erase(layer + part); }, layer + part);
  refused([&](ChangedTensors& t) { t.all.erase("stages.0.blocks.0.large_kernel.branch0.scale"); },
          "branch0.scale");
  refused(
      [&](ChangedTensors& t) {
        t.all["a.stranger"] = {"F32", {1}, std::vector<std::byte>(4)};
      },
      "a.stranger");
  refused([&](ChangedTensors& t) { t.all[layer + ".weight"].bytes[7] = std::byte{0x80}; }, "-128");
  const auto set_float = [](ChangedTensors& t, const std::string& name, float value) {
    std::memcpy(&t.all[name].bytes[4], &value, 4);
  };
  for (const char* part : {".multiplier", ".bias", ".input_scale", ".input_offset"})
    for (const float value : {NAN, INFINITY})
      refused([&](ChangedTensors& t) { set_float(t, layer + part, value); }, std::string(part) + "'[1]");
  refused([&](ChangedTensors& t) { set_float(t, "stages.0.blocks.0.large_kernel.branch0.scale", -1); },
          "above 0");
  refused([&](ChangedTensors& t) { t.all[layer + ".weight"].dtype = "U8"; }, "U8");
  refused(
      [&](ChangedTensors& t) {
        ChangedTensors::Tensor& scale = t.all[layer + ".input_scale"];
        scale.dtype = "F16";
        scale.bytes.resize(scale.bytes.size() / 2);
      },
      "F16");
  refused([&](ChangedTensors& t) { t.all[layer + ".weight"].shape = {6, 24}; }, "[6, 24]");
  refused([&](ChangedTensors& t) { t.metadata.clear(); }, "");  // then it is no form at all
}

}  // namespace
}  // namespace replk::model
