// A file that is not the network that was asked for is refused by name; kinds of such files, not cases.
#include "model/identity.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <functional>
#include <random>
#include <set>

#include "changed_source.hpp"
#include "core/error.hpp"
#include "core/log.hpp"
#include "model/network.hpp"

namespace replk::model {
namespace {

/// On one thread: thousands of small networks are made here.
Network network_of(const Architecture& architecture, const WeightSource& source) {
  NetworkOptions options;
  options.threads = 1;
  return Network(architecture, source, options);
}

/// Why the network cannot be made of the source; empty where it can.
std::string refusal(const Architecture& architecture, const WeightSource& source) {
  try {
    Network network = network_of(architecture, source);
  } catch (const core::Error& error) {
    EXPECT_EQ(error.status(), core::Status::bad_file) << error.what();
    return error.what();
  }
  return "";
}

bool contains(const std::string& text, const std::string& part) {
  return text.find(part) != std::string::npos;
}

std::vector<float> logits_of(Network& network) {
  std::vector<float> pixels(32 * 32 * 3), logits(static_cast<std::size_t>(network.classes()));
  for (std::size_t i = 0; i < pixels.size(); ++i) pixels[i] = std::sin(0.37f * static_cast<float>(i));
  network.run({pixels.data(), 1, 32, 32}, {logits.data(), {}});
  return logits;
}

double relative_difference(const std::vector<float>& found, const std::vector<float>& expected) {
  double difference = 0, largest = 0;
  for (std::size_t i = 0; i < expected.size(); ++i) {
    if (std::isnan(found[i])) return INFINITY;
    difference = std::max(difference, std::abs(double(found[i]) - expected[i]));
    largest = std::max(largest, std::abs(double(expected[i])));
  }
  return difference / largest;
}

TEST(Identity, ADeeperNetworkIsRefusedByItsFurtherBlocks) {
  for (const char* name : {"replknet", "slak", "convnext", "unireplknet"}) {
    Architecture shallow = golden_architecture(name);
    ASSERT_EQ(shallow.depths[2], 2);
    shallow.depths[2] = 1;
    const std::string further = shallow.family == Family::replknet ? "'stages.2.blocks.2." : "'stages.2.1.";
    const std::string message = refusal(shallow, ChangedSource(name));
    EXPECT_TRUE(contains(message, further)) << name << ": " << message;
  }
  Architecture shallow = golden_architecture("mobilenetv2");
  shallow.depths[5] = 1;
  EXPECT_FALSE(refusal(shallow, ChangedSource("mobilenetv2")).empty());
}

TEST(Identity, ABranchThatTheTableLacksIsRefused) {
  Architecture single = golden_architecture("replknet");
  single.small_kernel = 0;
  EXPECT_TRUE(contains(refusal(single, ChangedSource("replknet")), ".small_conv.bn.bias'"));
  // The other way round it is missing.
  Architecture pair = golden_architecture("replknet_xl");
  pair.small_kernel = 5;
  EXPECT_TRUE(contains(refusal(pair, ChangedSource("replknet_xl")), ".small_conv.conv.weight' is missing"));
}

TEST(Identity, ALayerInTwoFormsIsRefused) {
  ChangedSource both("replknet");
  const ChangedSource merged("replknet_merged");
  const std::string name = "stages.0.blocks.0.large_kernel.lkb_reparam.";
  for (const char* field : {"weight", "bias"}) both.tensors[name + field] = merged.tensors.at(name + field);
  EXPECT_TRUE(contains(refusal(golden_architecture("replknet"), both), ".lkb_origin.conv.weight'"));
}

TEST(Identity, ASmallKernelBesideALargeOneOfItsSizeIsAdded) {
  Architecture architecture = golden_architecture("replknet");
  architecture.kernels = {5, 5, 5, 3};
  const auto seeded = seeded_weights(architecture, 1);
  ChangedSource train(*seeded), merged(*seeded);
  EXPECT_FALSE(train.tensors.contains("stages.3.blocks.0.large_kernel.small_conv.conv.weight"));
  for (int stage = 0; stage < 4; ++stage)
    for (int block = 0; block < 2 * architecture.depths[stage]; block += 2) {
      const std::string name = fmt::format("stages.{}.blocks.{}.large_kernel.", stage, block);
      const int taps = architecture.kernels[stage] * architecture.kernels[stage];
      std::vector<double> weights(static_cast<std::size_t>(architecture.channels[stage] * taps));
      std::vector<double> bias(static_cast<std::size_t>(architecture.channels[stage]));
      for (const std::string branch : {"lkb_origin", "small_conv"}) {
        if (stage == 3 && branch == "small_conv") continue;
        const auto values = [&](const char* field) -> const std::vector<float>& {
          return train.tensors.at(name + branch + field).second;
        };
        for (int c = 0; c < architecture.channels[stage]; ++c) {
          const double scale = values(".bn.weight")[c] / std::sqrt(values(".bn.running_var")[c] + 1e-5);
          bias[c] += values(".bn.bias")[c] - values(".bn.running_mean")[c] * scale;
          for (int i = c * taps; i < (c + 1) * taps; ++i)
            weights[i] += values(".conv.weight")[i] * scale;  // both are of one size
        }
      }
      std::erase_if(merged.tensors, [&](const auto& entry) { return entry.first.starts_with(name); });
      const Shape shape{architecture.channels[stage], 1, architecture.kernels[stage],
                        architecture.kernels[stage]};
      merged.tensors[name + "lkb_reparam.weight"] = {shape, {weights.begin(), weights.end()}};
      merged.tensors[name + "lkb_reparam.bias"] = {{shape[0]}, {bias.begin(), bias.end()}};
    }
  Network as_trained = network_of(architecture, train), as_merged = network_of(architecture, merged);
  EXPECT_LE(relative_difference(logits_of(as_trained), logits_of(as_merged)), 1e-5);
}

TEST(Identity, TheModelThatAFileNamesIsCompared) {
  const Architecture asked = find_architecture("replknet-nano:k=3");
  ChangedSource source(*seeded_weights(asked, 1));
  for (const char* same : {"", "replknet-nano:k=3,3,3,3", "replknet-nano", "mine", "mine:k=3"}) {
    source.model = same;
    EXPECT_EQ(refusal(asked, source), "") << same;
  }
  for (const char* other : {"replknet-test", "replknet-31b:k=3", "slak-t"}) {
    source.model = other;
    const std::string message = refusal(asked, source);
    EXPECT_TRUE(contains(message, other) && contains(message, "replknet-nano:k=3")) << message;
  }
}

TEST(Identity, WhatIsForeignIsPassedOverAndWarnedOf) {
  std::string log;
  core::set_log_callback(
      [](core::LogLevel, const char* message, void* user) { *static_cast<std::string*>(user) += message; },
      &log);
  for (const char* name : {"replknet", "mobilenetv2", "convnext"}) {
    ChangedSource source(name);
    Network alone = network_of(golden_architecture(name), source);
    for (const char* foreign : {"ema.stages.0.0.gamma", "optimizer.state.0.exp_avg",
                                "decode_head.conv.weight", "n_averaged", "model_ema.module.head.weight"})
      source.tensors[foreign] = {{1}, {0.0f}};
    log.clear();
    Network network = network_of(golden_architecture(name), source);
    EXPECT_EQ(logits_of(network), logits_of(alone));
    EXPECT_TRUE(contains(log, "n_averaged")) << log;
  }
  core::set_log_callback(nullptr, nullptr);
}

TEST(Identity, ABackboneMayHaveWhatIsLeftOfItsHead) {
  for (const char* name : {"replknet", "replknet_xl", "mobilenetv2", "convnext", "unireplknet_merged"}) {
    ChangedSource source(name);
    std::erase_if(source.tensors, [](const auto& entry) {
      return entry.first.starts_with("head.") || entry.first.starts_with("classifier.");
    });
    EXPECT_EQ(network_of(golden_architecture(name), source).classes(), 0) << name;
  }
}

// Mutations
// ---------------------------------------------------------------------------------------------------

using Random = std::mt19937;

std::size_t below(Random& random, std::size_t count) {
  return random() % count;
}

std::string any_name(Random& random, const ChangedSource& source) {
  return std::next(source.tensors.begin(), static_cast<std::ptrdiff_t>(below(random, source.tensors.size())))
      ->first;
}

/// A name with a letter lost, doubled, changed or in the other case, with another number, or with a prefix.
std::string other_name(Random& random, std::string name) {
  const std::size_t at = below(random, name.size());
  switch (below(random, 6)) {
    case 0:
      name.erase(at, 1);
      break;
    case 1:
      name.insert(at, 1, name[at]);
      break;
    case 2:
      name[at] = static_cast<char>('a' + below(random, 26));
      break;
    case 3:
      name[at] = static_cast<char>(name[at] ^ 0x20);
      break;
    case 4:
      if (const std::size_t digit = name.find_first_of("0123456789"); digit != std::string::npos)
        name[digit] = static_cast<char>('0' + below(random, 10));
      break;
    default:
      name = (below(random, 2) ? "module." : "ema.") + name;
  }
  return name;
}

/// Another shape, of as many elements or not.
Shape other_shape(Random& random, Shape shape) {
  const std::size_t at = below(random, std::max<std::size_t>(shape.size(), 1));
  switch (below(random, 7)) {
    case 0:
      std::reverse(shape.begin(), shape.end());
      break;
    case 1:
      std::shuffle(shape.begin(), shape.end(), random);
      break;
    case 2:
      shape = {elements(shape)};
      break;
    case 3:
      shape.insert(shape.begin() + static_cast<std::ptrdiff_t>(at), 1);
      break;
    case 4:
      shape.push_back(1);
      break;
    case 5:
      if (!shape.empty()) shape.erase(shape.begin() + static_cast<std::ptrdiff_t>(at));
      break;
    default:
      if (!shape.empty()) shape[at] += static_cast<std::int64_t>(below(random, 4)) - 1;
  }
  return shape;
}

struct Mutation {
  std::string what;                // for the test's message
  std::vector<std::string> names;  // one of which a refusal must have
};

/// The path of a tensor's layer, which a refusal may name instead: a form that lacks a bias is asked for its
/// BN.
std::string layer_path(std::string name) {
  for (int i = 0; i < 2; ++i) name.erase(name.rfind('.') == std::string::npos ? 0 : name.rfind('.'));
  return name;
}

Mutation mutate(Random& random, ChangedSource& source) {
  const std::string name = any_name(random, source);
  auto& [shape, values] = source.tensors.at(name);
  Mutation mutation{"", {name}};
  if (const std::string path = layer_path(name); !path.empty()) mutation.names.push_back(path + ".");
  switch (below(random, 5)) {
    case 0: {  // renamed
      const std::string other = other_name(random, name);
      mutation.what = name + " is now " + other;
      mutation.names.push_back(other);
      auto node = source.tensors.extract(name);
      node.key() = other;
      source.tensors.insert(std::move(node));
      break;
    }
    case 1: {  // one more
      const std::string other = other_name(random, name);
      mutation.what = name + " is also " + other;
      mutation.names.push_back(other);
      source.tensors.insert({other, source.tensors.at(name)});
      break;
    }
    case 2: {  // a block more, or one less
      const std::size_t end = name.find('.', name.find_first_of("0123456789"));
      if (end == std::string::npos) break;
      const std::string block = name.substr(0, end + 1);
      std::string next = block;
      ++next[end - 1];
      mutation.what = block + " is also, or only, " + next;
      mutation.names = {block, next};
      const bool moved = below(random, 2);
      const auto copy = source.tensors;
      for (const auto& [other, tensor] : copy)
        if (other.starts_with(block)) {
          if (moved) source.tensors.erase(other);
          source.tensors.insert({next + other.substr(block.size()), tensor});
        }
      break;
    }
    default:
      shape = other_shape(random, shape);
      mutation.what = name + " has shape " + to_string(shape);
      values.resize(static_cast<std::size_t>(elements(shape)));
  }
  return mutation;
}

/// Tensors that are not the original's but have a network's name: PyTorch would refuse them as unexpected.
std::vector<std::string> unexpected(const ChangedSource& source, const ChangedSource& original) {
  const auto first_part = [](const std::string& name) { return name.substr(0, name.find('.')); };
  std::set<std::string> first_parts;
  for (const auto& [name, tensor] : original.tensors) first_parts.insert(first_part(name));
  std::vector<std::string> names;
  for (const auto& [name, tensor] : source.tensors)
    if (!original.tensors.contains(name) && first_parts.contains(first_part(name)) &&
        !name.ends_with(".num_batches_tracked"))
      names.push_back(name);
  return names;
}

class Mutations : public testing::TestWithParam<const char*> {};

TEST_P(Mutations, AreRefusedByNameOrHarmless) {
  const Architecture architecture = golden_architecture(GetParam());
  const ChangedSource original{std::string(GetParam())};
  Network network = network_of(architecture, original);
  const std::vector<float> expected = logits_of(network);
  Random random(1);
  int refused = 0, harmless = 0;
  for (int i = 0; i < 200; ++i) {
    ChangedSource source = original;
    const Mutation mutation = mutate(random, source);
    try {
      Network mutant = network_of(architecture, source);
      ASSERT_EQ(mutant.classes(), network.classes()) << mutation.what;
      EXPECT_LE(relative_difference(logits_of(mutant), expected), 1e-5) << mutation.what;
      EXPECT_EQ(unexpected(source, original), std::vector<std::string>()) << mutation.what;
      // What may be lost or strange without harm: counters, a foreign name, a side of 1, a norm not asked
      // for.
      ++harmless;
    } catch (const core::Error& error) {
      EXPECT_EQ(error.status(), core::Status::bad_file);
      EXPECT_TRUE(std::any_of(mutation.names.begin(), mutation.names.end(),
                              [&](const std::string& name) { return contains(error.what(), "'" + name); }))
          << mutation.what << "; said: " << error.what();
      ++refused;
    }
  }
  EXPECT_GT(refused, 80);
  EXPECT_GT(harmless, 10);
}

INSTANTIATE_TEST_SUITE_P(Goldens, Mutations,
                         testing::Values("replknet", "replknet_merged", "replknet_xl", "slak", "convnext",
                                         "unireplknet", "unireplknet_merged", "mobilenetv2"),
                         [](const auto& info) { return info.param; });

}  // namespace
}  // namespace replk::model
