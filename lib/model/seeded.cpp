// Weights from a seed: train-form tensors whose every element is a function of seed, name and index alone, in
// integer arithmetic with one rounding, so that any machine and any order of reading gives the same bits.
#include <cmath>
#include <functional>
#include <map>

#include "core/error.hpp"
#include "model/graph.hpp"

namespace replk::model {
namespace {

/// Uniform in [low, high), or near normal (the sum of four uniforms) with mean 0.
struct Distribution {
  double low = 0, high = 0;
  double deviation = 0;  // above 0: normal
};

Distribution uniform(double low, double high) {
  return {low, high, 0};
}
Distribution normal(double deviation) {
  return {0, 0, deviation};
}

struct SeededTensor {
  Shape shape;
  Distribution distribution;
};

// splitmix64's finaliser (Steele, Lea and Flood, OOPSLA 2014).
std::uint64_t mix(std::uint64_t z) {
  z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
  z = (z ^ z >> 27) * 0x94d049bb133111ebu;
  return z ^ z >> 31;
}

std::uint64_t hash(std::string_view text) {  // FNV-1a
  std::uint64_t value = 0xcbf29ce484222325u;
  for (unsigned char c : text) value = (value ^ c) * 0x100000001b3u;
  return value;
}

float draw(const Distribution& distribution, std::uint64_t bits) {
  if (distribution.deviation == 0)
    return static_cast<float>(distribution.low + (distribution.high - distribution.low) *
                                                     static_cast<double>(bits >> 11) * 0x1p-53);
  const auto sum = static_cast<std::int64_t>((bits & 0xffff) + (bits >> 16 & 0xffff) + (bits >> 32 & 0xffff) +
                                             (bits >> 48));
  // Four uniforms on 0..65535 have the deviation 65536 / sqrt(3), nearly.
  constexpr double unit = 1.7320508075688772 / 65536;
  return static_cast<float>(distribution.deviation * (static_cast<double>(sum - 2 * 65535) * unit));
}

/// Lists what a graph reads, with scales that keep the second moment of activations near 1: He's for weights
/// (twice where the input was rectified), and small steps on the residual path, which has up to 54 of them.
class Lister {
 public:
  explicit Lister(const Graph& graph) : graph_(graph) {
    for (const Layer& layer : graph.layers) list(layer);
  }
  std::map<std::string, SeededTensor, std::less<>> tensors;

 private:
  void list(const Layer& layer) {
    std::visit(Overloaded{[&](const Depthwise& d) {
                            for (const ConvTensors& conv : d.tensors)
                              list_convolution(layer, conv, static_cast<double>(d.branches.size()));
                            if (!d.sum_batch_norm.empty())
                              list_batch_norm(d.sum_batch_norm, layer.outputs, false);
                          },
                          [&](const Linear& l) { list_linear(layer, l); },
                          [&](const Convolution& c) { list_convolution(layer, c.tensors); },
                          [&](const LayerNorm& n) { list_norm(n, uniform(0.5, 1.5)); },
                          [&](const Grn& n) { list_norm(n, normal(0.3)); },
                          [&](const SqueezeExcite& s) {
                            list_convolution(layer, s.down);
                            list_convolution(layer, s.up);
                          },
                          [](const Weightless&) {}},
               layer.operation);
  }
  void list_linear(const Layer& layer, const Linear& l) {
    list_convolution(layer, l.tensors, 1, layer.residual >= 0 && l.output_scale.empty());
    if (!l.input_batch_norm.empty()) list_batch_norm(l.input_batch_norm, layer.inputs, false);
    if (!l.input_offset.empty()) add(l.input_offset, {1, 1, 1, layer.inputs}, normal(0.1));
    if (!l.output_scale.empty()) add(l.output_scale, {layer.outputs}, residual_step());
  }
  void list_norm(const Norm& norm, Distribution gain) {
    add(norm.tensors.weight, norm.tensors.shape, gain);
    if (!norm.tensors.bias.empty()) add(norm.tensors.bias, norm.tensors.shape, normal(0.1));
  }
  void list_convolution(const Layer& layer, const ConvTensors& conv, double branches = 1,
                        bool before_residual = false) {
    const double fan_in = static_cast<double>(elements(conv.shape)) / static_cast<double>(conv.shape[0]);
    const double gain = graph_.values[layer.src].rectified ? 2.0 : 1.0;
    add(conv.weight, conv.shape, normal(std::sqrt(gain / (fan_in * branches))));
    const int channels = static_cast<int>(conv.shape[0]);
    if (!conv.batch_norm.empty())
      list_batch_norm(conv.batch_norm, channels, before_residual);
    else if (!conv.bias.empty())
      add(conv.bias, {channels}, normal(0.1));
  }
  void list_batch_norm(const std::string& prefix, int channels, bool before_residual) {
    add(prefix + ".weight", {channels}, before_residual ? residual_step() : uniform(0.5, 1.5));
    add(prefix + ".bias", {channels}, normal(before_residual ? 0.03 : 0.1));
    add(prefix + ".running_mean", {channels}, normal(0.2));
    add(prefix + ".running_var", {channels}, uniform(0.5, 2.0));
  }
  static Distribution residual_step() { return uniform(0.1, 0.3); }
  void add(const std::string& name, Shape shape, Distribution distribution) {
    tensors[name] = {std::move(shape), distribution};
  }

  const Graph& graph_;
};

class SeededSource : public WeightSource {
 public:
  SeededSource(const Architecture& architecture, std::uint64_t seed)
      : seed_(seed), tensors_(Lister(build_graph(architecture, architecture.classes)).tensors) {}

  std::string describe() const override { return "seed " + std::to_string(seed_); }
  std::vector<std::string> names() const override {
    std::vector<std::string> names;
    for (const auto& [name, tensor] : tensors_) names.push_back(name);
    return names;
  }
  const Shape* shape(std::string_view name) const override {
    const auto found = tensors_.find(name);
    return found == tensors_.end() ? nullptr : &found->second.shape;
  }
  void read(std::string_view name, std::span<float> destination) const override {
    const auto found = tensors_.find(name);
    if (found == tensors_.end()) core::fail(core::Status::not_found, "{}: no tensor '{}'", describe(), name);
    const std::uint64_t start = mix(seed_ ^ hash(name));
    for (std::size_t i = 0; i < destination.size(); ++i)
      destination[i] = draw(found->second.distribution, mix(start + (i + 1) * 0x9e3779b97f4a7c15u));
  }
  std::string metadata(std::string_view) const override { return {}; }

 private:
  std::uint64_t seed_;
  std::map<std::string, SeededTensor, std::less<>> tensors_;
};

}  // namespace

std::unique_ptr<WeightSource> seeded_weights(const Architecture& architecture, std::uint64_t seed) {
  return std::make_unique<SeededSource>(architecture, seed);
}

}  // namespace replk::model
