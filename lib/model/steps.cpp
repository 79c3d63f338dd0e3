#include "model/steps.hpp"

#include <algorithm>

#include "core/error.hpp"
#include "core/threads.hpp"
#include "depthwise/plan.hpp"
#include "elementwise/elementwise.hpp"
#include "model/workload.hpp"

namespace replk::model {
namespace {

std::span<const float> view(const core::Buffer<float>& buffer) {
  return {buffer.data(), buffer.size()};
}

class DepthwiseStep : public Step {
 public:
  DepthwiseStep(const Layer& layer, const Parameters& parameters, const MapSize& in,
                const StepOptions& options)
      : plan_(depthwise_problem(layer, parameters.depthwise.branches, in, options.numerics),
              weights(parameters), view(parameters.depthwise.bias), plan_options(options)) {}
  std::size_t scratch_bytes() const override { return plan_.workspace_bytes(); }
  void run(const StepRun& run) const override { plan_.run({run.src, run.dst, run.residual}, run.scratch); }
  std::span<const std::byte> weights() const override { return plan_.executor().weights(); }
  std::string shape() const override { return depthwise::to_string(plan_.problem()); }
  std::string choice() const override { return plan_.tiling().to_string(); }

 private:
  static depthwise::PlanOptions plan_options(const StepOptions& options) {
    depthwise::PlanOptions plan_options;
    plan_options.threads = options.threads;
    return plan_options;
  }
  static std::vector<std::span<const float>> weights(const Parameters& parameters) {
    std::vector<std::span<const float>> views;
    for (const auto& branch : parameters.depthwise.weights) views.push_back(view(branch));
    return views;
  }
  depthwise::Plan plan_;
};

/// Of a dense layer in this precision.
dense::PlanOptions dense_options(const StepOptions& options, Precision precision = Precision::fp32) {
  dense::PlanOptions dense_options;
  dense_options.threads = options.threads;
  if (options.fixed_order && precision == Precision::fp32) dense_options.choice = "plain";
  return dense_options;
}

class LinearStep : public Step {
 public:
  LinearStep(const Layer& layer, const Parameters& parameters, const MapSize& in, const StepPlace& place,
             const StepOptions& options)
      : plan_(linear_layer(layer, parameters.precision, place.flow, in), parameters.linear,
              plan_options(place, parameters.precision, options)) {}
  std::size_t scratch_bytes() const override { return plan_.scratch_bytes(); }
  void run(const StepRun& run) const override {
    plan_.run({run.src, run.dst, run.copy, run.residual, run.scratch, next_});
  }
  void set_next(std::span<const std::byte> weights) override { next_ = weights; }
  std::string shape() const override {
    const dense::Linear& linear = plan_.linear();
    const std::string shape = fmt::format("{}x{} to {}", linear.rows, linear.inputs, linear.outputs);
    return linear.precision == Precision::fp32 ? shape : fmt::format("{}, {}", shape, name(linear.precision));
  }
  std::string choice() const override { return plan_.choice(); }

 private:
  static dense::PlanOptions plan_options(const StepPlace& place, Precision precision,
                                         const StepOptions& options) {
    dense::PlanOptions plan_options = dense_options(options, precision);
    if (place.next) plan_options.copy = &place.next->quantiser;
    return plan_options;
  }
  dense::LinearPlan plan_;
  std::span<const std::byte> next_;
};

class ConvolutionStep : public Step {
 public:
  ConvolutionStep(const Layer& layer, const Parameters& parameters, const MapSize& in,
                  const StepOptions& options)
      : plan_(convolution_layer(layer, in), parameters.convolution, dense_options(options)) {}
  std::size_t scratch_bytes() const override { return plan_.scratch_bytes(); }
  void run(const StepRun& run) const override { plan_.run(run.floats(), run.dst, run.scratch); }
  std::string shape() const override {
    const dense::Convolution& conv = plan_.convolution();
    return fmt::format("{}x{}x{}x{} to {}, {}x{}, stride {}", conv.batch, conv.height, conv.width,
                       conv.inputs, conv.outputs, conv.kernel_h, conv.kernel_w, conv.stride_h);
  }
  std::string choice() const override { return plan_.choice(); }

 private:
  dense::ConvolutionPlan plan_;
};

/// What elementwise computes: nothing to prepare but the size.
class MapStep : public Step {
 public:
  MapStep(const Layer& layer, const Parameters& parameters, const MapSize& in, const StepOptions& options)
      : layer_(layer),
        parameters_(parameters),
        map_{in.batch, std::int64_t{in.height} * in.width, layer.inputs},
        threads_(options.threads) {}
  std::size_t scratch_bytes() const override { return 0; }
  std::string shape() const override {
    return fmt::format("{}x{}x{}", map_.images, map_.pixels, map_.channels);
  }
  std::string choice() const override { return "elementwise"; }

 protected:
  const Layer& layer_;
  const Parameters& parameters_;
  elementwise::Map map_;
  int threads_;
};

class MeanStep : public MapStep {
  using MapStep::MapStep;
  void run(const StepRun& run) const override {
    elementwise::global_mean(map_, run.floats(), run.dst, threads_);
  }
};

/// A norm, which may write its result as the next product's operand instead.
class NormStep : public MapStep {
 public:
  NormStep(const Layer& layer, const Parameters& parameters, const MapSize& in, const StepPlace& place,
           const StepOptions& options)
      : MapStep(layer, parameters, in, options), place_(place) {}

 protected:
  /// Of a run; type f32 where the result is fp32.
  elementwise::NarrowCopy copy(const StepRun& run) const {
    if (run.copy == nullptr) return {};
    const dense::Quantiser& quantiser = place_.next->quantiser;
    return {place_.flow.copy, run.copy, quantiser.scale.data(), quantiser.offset.data()};
  }

 private:
  StepPlace place_;
};

class LayerNormStep : public NormStep {
  using NormStep::NormStep;
  void run(const StepRun& run) const override {
    const elementwise::LayerNorm norm{map_.images * map_.pixels, map_.channels,
                                      static_cast<float>(layer_.epsilon), layer_.activation};
    const float *gain = parameters_.gain.data(), *offset = parameters_.offset.data();
    if (run.copy)
      elementwise::layer_norm(norm, gain, offset, run.floats(), copy(run), threads_);
    else
      elementwise::layer_norm(norm, gain, offset, run.floats(), run.dst, threads_);
  }
};

class GrnStep : public NormStep {
  using NormStep::NormStep;
  std::size_t scratch_bytes() const override { return map_.images * map_.channels * sizeof(float); }
  void run(const StepRun& run) const override {
    const auto epsilon = static_cast<float>(layer_.epsilon);
    auto* scratch = static_cast<float*>(run.scratch);
    if (run.copy)
      elementwise::global_response_norm(map_, parameters_.gain.data(), epsilon, run.floats(), copy(run),
                                        scratch, threads_);
    else
      elementwise::global_response_norm(map_, parameters_.gain.data(), nullptr, epsilon, run.floats(),
                                        run.dst, scratch, threads_);
  }
};

class ClampStep : public MapStep {
  using MapStep::MapStep;
  void run(const StepRun& run) const override {
    elementwise::clamp_above(map_.images * map_.pixels * map_.channels, 6.0f, run.floats(), run.dst,
                             threads_);
  }
};

/// Mean over pixels, two small linear layers, gate (squeeze-and-excitation, arXiv 1709.01507).
class SqueezeExciteStep : public MapStep {
 public:
  SqueezeExciteStep(const Layer& layer, const Parameters& parameters, const MapSize& in,
                    const StepOptions& options)
      : MapStep(layer, parameters, in, options),
        down_({in.batch, layer.inputs, layer.hidden, true, Activation::relu}, parameters.linear,
              dense_options(options)),
        up_({in.batch, layer.hidden, layer.inputs, true}, parameters.up, dense_options(options)) {}
  std::size_t scratch_bytes() const override {
    return mean_bytes() + hidden_bytes() + std::max(down_.scratch_bytes(), up_.scratch_bytes());
  }
  void run(const StepRun& run) const override {
    auto* mean = static_cast<float*>(run.scratch);  // and then the gate's logits
    auto* hidden = mean + mean_bytes() / sizeof(float);
    auto* inner = hidden + hidden_bytes() / sizeof(float);
    elementwise::global_mean(map_, run.floats(), mean, threads_);
    down_.run(mean, hidden, nullptr, inner);
    up_.run(hidden, mean, nullptr, inner);
    elementwise::gate(map_, mean, run.floats(), run.dst, threads_);
  }
  std::string choice() const override { return down_.choice(); }

 private:
  std::size_t mean_bytes() const {
    return core::round_up(map_.images * map_.channels * sizeof(float), core::alignment);
  }
  std::size_t hidden_bytes() const {
    return core::round_up(map_.images * layer_.hidden * sizeof(float), core::alignment);
  }
  dense::LinearPlan down_, up_;
};

bool is_large(const Layer& layer) {
  return layer.kernel_h >= 7 || layer.kernel_w >= 7;
}

}  // namespace

MapSize output_size(const Layer& layer, const MapSize& in) {
  if (layer.operation == Operation::mean) return {in.batch, 1, 1};
  if (layer.operation != Operation::depthwise && layer.operation != Operation::convolution) return in;
  const bool same = layer.operation == Operation::depthwise;
  const int pad_h = same ? layer.kernel_h / 2 : layer.padding,
            pad_w = same ? layer.kernel_w / 2 : layer.padding;
  return {in.batch, (in.height + 2 * pad_h - layer.kernel_h) / layer.stride + 1,
          (in.width + 2 * pad_w - layer.kernel_w) / layer.stride + 1};
}

LayerKind kind_of(const Layer& layer) {
  switch (layer.operation) {
    case Operation::depthwise:
      return is_large(layer) ? LayerKind::large_depthwise : LayerKind::small_depthwise;
    case Operation::linear:
      return LayerKind::pointwise;
    case Operation::convolution:
      return LayerKind::dense_conv;
    case Operation::layer_norm:
    case Operation::grn:
      return LayerKind::norm;
    default:
      return LayerKind::other;
  }
}

double macs_of(const Layer& layer, const Parameters& parameters, const MapSize& in) {
  const double pixels = static_cast<double>(output_size(layer, in).pixels());
  switch (layer.operation) {
    case Operation::depthwise: {
      double taps = 0;
      for (const auto& branch : parameters.depthwise.branches) taps += branch.taps();
      return pixels * layer.outputs * taps;
    }
    case Operation::linear:
    case Operation::convolution:
      return pixels * layer.outputs * layer.inputs * layer.kernel_h * layer.kernel_w;
    case Operation::squeeze_excite:
      return 2.0 * static_cast<double>(in.batch) * layer.inputs * layer.hidden;
    default:
      return 0;
  }
}

std::unique_ptr<Step> prepare_step(const Layer& layer, const Parameters& parameters, const MapSize& in,
                                   const StepPlace& place, const StepOptions& options) {
  switch (layer.operation) {
    case Operation::depthwise:
      return std::make_unique<DepthwiseStep>(layer, parameters, in, options);
    case Operation::linear:
      return std::make_unique<LinearStep>(layer, parameters, in, place, options);
    case Operation::convolution:
      return std::make_unique<ConvolutionStep>(layer, parameters, in, options);
    case Operation::layer_norm:
      return std::make_unique<LayerNormStep>(layer, parameters, in, place, options);
    case Operation::grn:
      return std::make_unique<GrnStep>(layer, parameters, in, place, options);
    case Operation::squeeze_excite:
      return std::make_unique<SqueezeExciteStep>(layer, parameters, in, options);
    case Operation::relu6_clamp:
      return std::make_unique<ClampStep>(layer, parameters, in, options);
    case Operation::mean:
      return std::make_unique<MeanStep>(layer, parameters, in, options);
  }
  core::fail(core::Status::internal, "no step for layer {}", layer.name);
}

}  // namespace replk::model
