#include "model/steps.hpp"

#include <algorithm>
#include <functional>

#include "core/error.hpp"
#include "core/threads.hpp"
#include "depthwise/plan.hpp"

namespace replk::model {
namespace {

std::span<const float> view(const core::Buffer<float>& buffer) { return {buffer.data(), buffer.size()}; }

class DepthwiseStep : public Step {
 public:
  DepthwiseStep(const Layer& layer, const Parameters& parameters, const MapSize& in, const StepOptions& options)
      : plan_(problem(layer, parameters, in, options), weights(parameters), view(parameters.depthwise.bias),
              plan_options(options)) {}
  std::size_t scratch_bytes() const override { return plan_.workspace_bytes(); }
  void run(const float* src, float* dst, const float* residual, void* scratch) const override {
    plan_.run({src, dst, residual}, scratch);
  }
  std::string shape() const override { return depthwise::to_string(plan_.problem()); }
  std::string choice() const override { return plan_.tiling().to_string(); }

 private:
  static depthwise::Problem problem(const Layer& layer, const Parameters& parameters, const MapSize& in,
                                    const StepOptions& options) {
    depthwise::Problem problem;
    problem.batch = in.batch;
    problem.channels = layer.inputs;
    problem.height = in.height;
    problem.width = in.width;
    problem.branches = parameters.depthwise.branches;
    depthwise::set_default_padding(problem);
    problem.stride_h = problem.stride_w = layer.stride;
    problem.numerics = options.numerics;
    problem.epilogue = {true, layer.activation, layer.residual >= 0};
    return problem;
  }
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

class LinearStep : public Step {
 public:
  LinearStep(const Layer& layer, const Parameters& parameters, const MapSize& in, const StepOptions& options)
      : plan_({in.pixels(), layer.inputs, layer.outputs, true, layer.activation, layer.residual >= 0},
              parameters.linear, {.threads = options.threads}) {}
  std::size_t scratch_bytes() const override { return plan_.scratch_bytes(); }
  void run(const float* src, float* dst, const float* residual, void* scratch) const override {
    plan_.run(src, dst, residual, scratch);
  }
  std::string shape() const override {
    const dense::Linear& linear = plan_.linear();
    return fmt::format("{}x{} to {}", linear.rows, linear.inputs, linear.outputs);
  }
  std::string choice() const override { return plan_.choice(); }

 private:
  dense::LinearPlan plan_;
};

class ConvolutionStep : public Step {
 public:
  ConvolutionStep(const Layer& layer, const Parameters& parameters, const MapSize& in, const StepOptions& options)
      : plan_({in.batch, layer.inputs, layer.outputs, in.height, in.width, layer.kernel_h, layer.kernel_w,
               layer.stride, layer.stride, layer.padding, layer.padding, true, layer.activation},
              parameters.convolution, {.threads = options.threads}) {}
  std::size_t scratch_bytes() const override { return plan_.scratch_bytes(); }
  void run(const float* src, float* dst, const float*, void* scratch) const override { plan_.run(src, dst, scratch); }
  std::string shape() const override {
    const dense::Convolution& conv = plan_.convolution();
    return fmt::format("{}x{}x{}x{} to {}, {}x{}, stride {}", conv.batch, conv.height, conv.width, conv.inputs,
                       conv.outputs, conv.kernel_h, conv.kernel_w, conv.stride_h);
  }
  std::string choice() const override { return plan_.choice(); }

 private:
  dense::ConvolutionPlan plan_;
};

class MeanStep : public Step {
 public:
  MeanStep(const Layer& layer, const MapSize& in) : in_(in), channels_(layer.inputs) {}
  std::size_t scratch_bytes() const override { return 0; }
  void run(const float* src, float* dst, const float*, void*) const override {
    const std::int64_t pixels = std::int64_t{in_.height} * in_.width;
    for (std::int64_t n = 0; n < in_.batch; ++n)
      for (int c = 0; c < channels_; ++c) {
        double sum = 0;
        for (std::int64_t p = 0; p < pixels; ++p) sum += src[(n * pixels + p) * channels_ + c];
        dst[n * channels_ + c] = static_cast<float>(sum / static_cast<double>(pixels));
      }
  }
  std::string shape() const override { return fmt::format("{}x{}x{}x{}", in_.batch, in_.height, in_.width, channels_); }
  std::string choice() const override { return "mean"; }

 private:
  MapSize in_;
  int channels_;
};

bool is_large(const Layer& layer) { return layer.kernel_h >= 7 || layer.kernel_w >= 7; }

}  // namespace

Parameters load_parameters(const Layer& layer, TensorReader& reader, int threads) {
  Parameters parameters;
  const auto floats = [&](std::size_t count) { parameters.weight_bytes += count * sizeof(float); };
  switch (layer.operation) {
    case Operation::depthwise:
      parameters.depthwise = fold_depthwise(layer, reader, threads);
      for (const auto& weights : parameters.depthwise.weights) floats(weights.size());
      floats(parameters.depthwise.bias.size());
      break;
    case Operation::linear:
    case Operation::convolution: {
      const FoldedDense folded = fold_dense(layer, reader, threads);
      floats(folded.weights.size() + folded.bias.size());
      if (layer.operation == Operation::linear)
        parameters.linear = std::make_shared<dense::LinearWeights>(layer.inputs, layer.outputs, view(folded.weights),
                                                                   view(folded.bias));
      else
        parameters.convolution = std::make_shared<dense::ConvolutionWeights>(
            layer.inputs, layer.outputs, layer.kernel_h, layer.kernel_w, view(folded.weights), view(folded.bias));
      break;
    }
    default: break;
  }
  return parameters;
}

MapSize output_size(const Layer& layer, const MapSize& in) {
  if (layer.operation == Operation::mean) return {in.batch, 1, 1};
  if (layer.operation != Operation::depthwise && layer.operation != Operation::convolution) return in;
  const bool same = layer.operation == Operation::depthwise;
  const int pad_h = same ? layer.kernel_h / 2 : layer.padding, pad_w = same ? layer.kernel_w / 2 : layer.padding;
  return {in.batch, (in.height + 2 * pad_h - layer.kernel_h) / layer.stride + 1,
          (in.width + 2 * pad_w - layer.kernel_w) / layer.stride + 1};
}

LayerKind kind_of(const Layer& layer) {
  switch (layer.operation) {
    case Operation::depthwise: return is_large(layer) ? LayerKind::large_depthwise : LayerKind::small_depthwise;
    case Operation::linear: return LayerKind::pointwise;
    case Operation::convolution: return LayerKind::dense_conv;
    case Operation::layer_norm:
    case Operation::grn: return LayerKind::norm;
    default: return LayerKind::other;
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
    case Operation::squeeze_excite: return 2.0 * static_cast<double>(in.batch) * layer.inputs * layer.hidden;
    default: return 0;
  }
}

std::unique_ptr<Step> prepare_step(const Layer& layer, const Parameters& parameters, const MapSize& in,
                                   const StepOptions& options) {
  switch (layer.operation) {
    case Operation::depthwise: return std::make_unique<DepthwiseStep>(layer, parameters, in, options);
    case Operation::linear: return std::make_unique<LinearStep>(layer, parameters, in, options);
    case Operation::convolution: return std::make_unique<ConvolutionStep>(layer, parameters, in, options);
    case Operation::mean: return std::make_unique<MeanStep>(layer, in);
    default: core::fail(core::Status::internal, "no step for layer {}", layer.name);
  }
}

}  // namespace replk::model
