#include "model/gradient.hpp"

#include <algorithm>

#include "core/error.hpp"
#include "model/arena.hpp"
#include "model/graph.hpp"
#include "model/precision.hpp"

namespace replk::model {

std::size_t Gradient::Value::bytes() const {
  return static_cast<std::size_t>(size.pixels()) * channels * sizeof(float);
}

Gradient::Gradient(const Network& network, int height, int width) {
  network.feature_shape(3, height, width);  // checks the size
  if (network.precision() != Precision::fp32)
    core::fail(core::Status::unsupported, "a gradient of a network in {}; only fp32 has one",
               name(network.precision()));
  number_values(network.graph(), {1, height, width});
  plan_gradients();
  const StepOptions options{network.threads()};
  for (std::size_t i = 0; i < layers_.size(); ++i) {
    PlannedLayer& planned = layers_[i];
    planned.step = prepare_gradient_step(planned.layer, network.parameters()[i],
                                         values_[planned.layer.src].size, planned.accumulates, options);
  }
  plan_memory();
}

Gradient::~Gradient() = default;

void Gradient::number_values(const Graph& graph, const MapSize& input) {
  values_.push_back({input, graph.values[0].channels});
  std::vector<int> now(graph.values.size(), 0);  // the value that stands for the graph's
  for (int i = 0; i < graph.features_end; ++i) {
    Layer layer = graph.layers[i];
    const int result = layer.dst;
    layer.src = now[layer.src];
    if (layer.residual >= 0) layer.residual = now[layer.residual];
    layer.dst = now[result] = static_cast<int>(values_.size());
    values_.push_back({output_size(layer, values_[layer.src].size), layer.outputs});
    layers_.emplace_back().layer = std::move(layer);
  }
  map_ = now[graph.stages[3].value];
}

/// Whose gradient lies where, walking backwards. A residual takes over the gradient of the sum; what else
/// uses it has been computed before it and so adds to that.
void Gradient::plan_gradients() {
  values_[map_].gradient = buffers_++;
  for (auto planned = layers_.rbegin(); planned != layers_.rend(); ++planned) {
    const Layer& layer = planned->layer;
    const int gradient = values_[layer.dst].gradient;
    if (gradient < 0)
      core::fail(core::Status::unsupported, "layer {}: the last map does not depend on it", layer.name);
    if (layer.residual >= 0) {
      if (values_[layer.residual].gradient >= 0)
        core::fail(core::Status::unsupported, "layer {}: no gradient of a residual that is used later",
                   layer.name);
      values_[layer.residual].gradient = gradient;
    }
    if (layer.src == 0 && (works_on_source(layer) || &*planned != &layers_.front()))
      core::fail(core::Status::unsupported, "layer {}: no gradient where it uses the input", layer.name);
    Value& source = values_[layer.src];
    planned->accumulates = source.gradient >= 0;
    if (layer.src > 0 && source.gradient < 0)
      source.gradient = works_on_source(layer) ? gradient : buffers_++;
  }
}

/// One arena for both directions: layer i runs forwards at time i and backwards at time 2L - 1 - i, and a
/// buffer is there from its first time to its last.
void Gradient::plan_memory() {
  const int count = static_cast<int>(layers_.size());
  std::vector<Lifetime> lives(buffers_);
  const auto extend = [&](int buffer, std::size_t bytes, int time) {
    if (lives[buffer].bytes == 0) lives[buffer].first = time;
    lives[buffer].bytes = std::max(lives[buffer].bytes, bytes);
    lives[buffer].last = std::max(lives[buffer].last, time);
  };
  std::vector<int> last_use(values_.size(), -1);
  last_use[map_] = count;  // the backward pass begins with it
  for (int i = 0; i < count; ++i) {
    const Layer& layer = layers_[i].layer;
    last_use[layer.src] = std::max(last_use[layer.src], works_on_source(layer) ? 2 * count - 1 - i : i);
    if (layer.residual >= 0) last_use[layer.residual] = std::max(last_use[layer.residual], i);
  }
  for (int i = 0; i < count; ++i) {
    PlannedLayer& planned = layers_[i];
    const Layer& layer = planned.layer;
    Value& result = values_[layer.dst];
    // A residual that nothing reads any more becomes the sum.
    const bool reuses = layer.residual > 0 && last_use[layer.residual] == i;
    result.activation = reuses ? values_[layer.residual].activation : buffers_++;
    if (const std::size_t kept = planned.step->kept_bytes(); kept > 0) planned.kept = buffers_++;
    lives.resize(buffers_);
    extend(result.activation, result.bytes(), i);
    extend(result.activation, result.bytes(), last_use[layer.dst]);
    if (planned.kept >= 0) {
      extend(planned.kept, planned.step->kept_bytes(), i);
      extend(planned.kept, planned.step->kept_bytes(), 2 * count - 1 - i);
    }
  }
  for (int i = count - 1; i >= 0; --i)
    for (int v : {layers_[i].layer.dst, layers_[i].layer.src})
      if (v > 0) extend(values_[v].gradient, values_[v].bytes(), 2 * count - 1 - i);

  const ArenaPlan plan = plan_arena(lives);
  offsets_ = plan.offsets;
  std::size_t scratch = 0;
  for (const PlannedLayer& planned : layers_) scratch = std::max(scratch, planned.step->scratch_bytes());
  scratch_offset_ = core::round_up(plan.bytes, core::alignment);
  arena_bytes_ = scratch_offset_ + scratch;
}

void Gradient::seed(const Value& map) {
  const float* values = at(map.activation);
  float* gradient = at(map.gradient);
  std::fill_n(gradient, map.bytes() / sizeof(float), 0.0f);
  const std::int64_t centre = std::int64_t{map.size.height / 2} * map.size.width + map.size.width / 2;
  for (int c = 0; c < map.channels; ++c) {
    const std::int64_t i = centre * map.channels + c;
    gradient[i] = values[i] <= 0.0f ? 0.0f : 1.0f;
  }
}

void Gradient::of_centre(const float* pixels, float* gradient) {
  if (arena_.size() == 0) arena_ = core::Buffer<char>(arena_bytes_);
  void* const scratch = arena_.data() + scratch_offset_;
  const auto activation = [&](int v) { return v == 0 ? pixels : at(values_[v].activation); };
  const auto kept = [&](const PlannedLayer& planned) {
    return planned.kept < 0 ? nullptr : at(planned.kept);
  };
  for (const PlannedLayer& planned : layers_) {
    const Layer& layer = planned.layer;
    planned.step->forward(activation(layer.src), at(values_[layer.dst].activation),
                          layer.residual < 0 ? nullptr : activation(layer.residual), kept(planned), scratch);
  }
  seed(values_[map_]);
  for (auto planned = layers_.rbegin(); planned != layers_.rend(); ++planned) {
    const Layer& layer = planned->layer;
    planned->step->backward(works_on_source(layer) ? activation(layer.src) : nullptr, kept(*planned),
                            at(values_[layer.dst].gradient),
                            layer.src == 0 ? gradient : at(values_[layer.src].gradient), scratch);
  }
}

}  // namespace replk::model
