#include "model/quantise_network.hpp"

#include <cmath>

#include "core/error.hpp"
#include "core/threads.hpp"
#include "model/identity.hpp"
#include "model/noise.hpp"
#include "model/precision.hpp"
#include "model/statistics.hpp"
#include "model/stored_layer.hpp"

namespace replk::model {
namespace {

using core::fail;
using core::Status;

void require_finite(const WeightSource& source, const std::string& layer, const core::Buffer<float>& values) {
  for (float value : values)
    if (!std::isfinite(value))
      fail(Status::bad_file, "{}: layer {}: a weight is {}; finite numbers are wanted", source.describe(),
           layer, value);
}

class Quantiser {
 public:
  Quantiser(const Architecture& architecture, const WeightSource& source, const QuantiseOptions& options)
      : architecture_(architecture),
        source_(source),
        options_(options),
        threads_(core::effective_threads(options.threads)),
        graph_(build_graph(architecture, architecture.classes)),
        narrow_(narrow_layers(graph_)),
        reader_(source),
        walk_(graph_, reader_),
        made_{StoredTensors(source.describe()), {}} {}

  /// `ranges`: where they are from, as the file says it.
  QuantisedNetwork run(const std::string& ranges) {
    for (int i = 0; i < static_cast<int>(graph_.layers.size()); ++i) {
      const double share = static_cast<double>(i) / static_cast<double>(graph_.layers.size());
      if (options_.progress && !options_.progress(share))
        fail(Status::cancelled, "quantising {} was cancelled", source_.describe());
      add(i);
    }
    check_leftovers(architecture_, reader_);
    for (const Stage& stage : graph_.stages) copy_norm(stage);
    made_.tensors.set_metadata("precision", "int8");
    made_.tensors.set_metadata("model", architecture_.name);
    made_.tensors.set_metadata("calibration", ranges);
    for (const char* kept : {"labels", head_norm_epsilon_key})
      if (const std::string text = source_.metadata(kept); !text.empty())
        made_.tensors.set_metadata(kept, text);
    if (options_.progress) options_.progress(1);
    return std::move(made_);
  }
  /// Known once it has run.
  bool norms_are_the_networks() const { return walk_.norms_are_the_networks(); }

 private:
  void add(int index) {
    const Layer& layer = graph_.layers[static_cast<std::size_t>(index)];
    if (const Linear* linear = layer.as<Linear>()) return add_linear(index, layer, *linear);
    std::visit(Overloaded{[&](const Depthwise& d) { add_depthwise(layer, d); },
                          [&](const Convolution& c) { add_convolution(layer, c); },
                          [&](const Norm& n) { copy_plain(n.tensors); },
                          [&](const SqueezeExcite& s) { copy_plain(s.down), copy_plain(s.up); },
                          [](const Weightless&) {}, [](const Linear&) {}},
               layer.operation);
    walk_.pass(layer, nullptr);
  }

  void add_convolution(const Layer& layer, const Convolution& convolution) {
    const FoldedDense folded = fold_convolution(convolution, reader_, threads_);
    require_finite(source_, layer.name, folded.weights);
    require_finite(source_, layer.name, folded.bias);
    store_convolution(convolution, folded, made_.tensors);
  }

  void add_depthwise(const Layer& layer, const Depthwise& depthwise) {
    const FoldedDepthwise folded = fold_depthwise(depthwise, layer.outputs, reader_, threads_);
    for (const auto& weights : folded.weights) require_finite(source_, layer.name, weights);
    require_finite(source_, layer.name, folded.bias);
    store_depthwise(layer, folded, made_.tensors);
  }

  void add_linear(int index, const Layer& layer, const Linear& linear) {
    Linear bare = linear;  // its weights without the input's batch norm
    bare.input_batch_norm.clear();
    const FoldedDense weights = fold_linear(bare, reader_, threads_);
    require_finite(source_, layer.name, weights.weights);
    require_finite(source_, layer.name, weights.bias);
    LayerPrecision chosen{layer.name,
                          layer.inputs,
                          layer.outputs,
                          Precision::fp32,
                          0,
                          linear.wide ? "layers of few inputs stay fp32" : "heads stay fp32"};
    if (narrow_[static_cast<std::size_t>(index)]) {
      chosen.precision = Precision::bf16;
      chosen.reason = add_int8(index, layer, linear, weights, chosen.error);
      if (chosen.reason.empty()) chosen.precision = Precision::int8;
    }
    if (chosen.precision != Precision::int8)
      store_linear(linear, fold_linear(linear, reader_, threads_), chosen.precision, made_.tensors);
    made_.layers.push_back(std::move(chosen));
    walk_.pass(layer, &weights);
  }

  /// Why not; empty: done.
  std::string add_int8(int index, const Layer& layer, const Linear& linear, const FoldedDense& weights,
                       double& error) {
    if (layer.inputs > largest_int8_inputs)
      return fmt::format("{} inputs; at most {} can be summed", layer.inputs, largest_int8_inputs);
    const auto seen = options_.seen.find(index);
    InputKnowledge norms;
    if (seen == options_.seen.end()) norms.channels = walk_.input(layer);
    const InputKnowledge& knowledge = seen == options_.seen.end() ? norms : seen->second;
    if (!knowledge.channels.known()) return "no norm says what its input is like; calibrate with images";
    for (const auto* values : {&knowledge.channels.low, &knowledge.channels.high})
      for (double value : *values)
        if (!std::isfinite(value)) return "its input's range is not finite";
    Affine batch_norm;
    if (!linear.input_batch_norm.empty())
      batch_norm = fold_batch_norm(linear.input_batch_norm, layer.inputs, linear.tensors.bn_epsilon, reader_);
    const Int8Linear made = quantise_linear(weights, batch_norm, knowledge, threads_);
    error = made.error;
    if (!(error <= int8_error_limit))
      return fmt::format("its error in int8, {:.3f}, is above {}", error, int8_error_limit);
    store_int8(linear, made, made_.tensors);
    return "";
  }

  void copy(const std::string& name, const Shape& shape) {
    const core::Buffer<float> values = reader_.read(name, shape);
    require_finite(source_, name, values);
    made_.tensors.add_floats(name, shape, values.data());
  }
  void copy_plain(const ConvTensors& tensors) {
    copy(tensors.weight, tensors.shape);
    // A norm's bias is of the weight's shape, a layer's has an element an output; both are the first side.
    if (!tensors.bias.empty()) copy(tensors.bias, {tensors.shape[0]});
  }
  void copy_norm(const Stage& stage) {
    if (!reader_.has(stage.norm + ".weight")) return;
    for (const std::string& name : stage.norm_tensors()) copy(name, *source_.shape(stage.norm + ".weight"));
  }

  Architecture architecture_;
  const WeightSource& source_;
  const QuantiseOptions options_;
  int threads_;
  Graph graph_;
  std::vector<bool> narrow_;
  TensorReader reader_;
  StatisticsWalk walk_;
  QuantisedNetwork made_;
};

}  // namespace

namespace {

/// The same, its progress being a part of all.
QuantiseOptions part(const QuantiseOptions& options, double begin, double share) {
  QuantiseOptions result{options.threads, {}, {}};
  if (options.progress)
    result.progress = [=, &options](double fraction) { return options.progress(begin + share * fraction); };
  return result;
}

}  // namespace

QuantisedNetwork quantise_network(const Architecture& architecture, const WeightSource& source,
                                  const QuantiseOptions& options) {
  if (holds_int8(source))
    fail(Status::bad_file,
         "{}: its weights are int8 already; a file in train, merged or fused form is wanted",
         source.describe());
  check_model_name(architecture, source);
  if (!options.seen.empty()) return Quantiser(architecture, source, options).run("images");
  Quantiser quantiser(architecture, source, part(options, 0, 0.4));
  QuantisedNetwork made = quantiser.run("batch and layer norms");
  if (quantiser.norms_are_the_networks()) {
    if (options.progress) options.progress(1);
    return made;
  }
  QuantiseOptions again = part(options, 0.6, 0.4);
  again.seen = calibrate_with_noise(architecture, source, options.threads);
  return Quantiser(architecture, source, again).run("noise");
}

std::vector<LayerPrecision> layer_precisions(const Architecture& architecture, const WeightSource& source) {
  const Graph graph = build_graph(architecture, architecture.classes);
  const TensorReader reader(source);
  std::vector<LayerPrecision> all;
  for (const Layer& layer : graph.layers)
    if (const Linear* linear = layer.as<Linear>())
      all.push_back({layer.name, layer.inputs, layer.outputs,
                     holds_int8(source) ? stored_precision(*linear, reader) : Precision::fp32, 0, ""});
  return all;
}

}  // namespace replk::model
