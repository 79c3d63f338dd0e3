#include "model/operation/depthwise.hpp"

#include "depthwise/plan.hpp"
#include "model/steps.hpp"
#include "model/stored_layer.hpp"

namespace replk::model {
namespace {

class DepthwiseStep : public Step {
 public:
  DepthwiseStep(const depthwise::Problem& problem, const FoldedDepthwise& folded, const StepOptions& options)
      : plan_(problem, weights(folded), view(folded.bias), plan_options(options)) {}
  std::size_t scratch_bytes() const override { return plan_.workspace_bytes(); }
  void run(const StepRun& run) const override {
    plan_.run({run.src.bytes(), run.copy ? static_cast<void*>(run.copy.bytes()) : run.dst, run.residual},
              run.scratch);
  }
  core::Prefetch prefetch() const override { return plan_.executor().prefetch(); }
  std::string shape() const override { return depthwise::to_string(plan_.problem()); }
  std::string choice() const override { return plan_.tiling().to_string(); }

 private:
  static depthwise::PlanOptions plan_options(const StepOptions& options) {
    depthwise::PlanOptions plan_options;
    plan_options.threads = options.threads;
    plan_options.cold = true;
    return plan_options;
  }
  static std::vector<std::span<const float>> weights(const FoldedDepthwise& folded) {
    std::vector<std::span<const float>> views;
    for (const auto& branch : folded.weights) views.push_back(view(branch));
    return views;
  }
  depthwise::Plan plan_;
};

/// The layer whose result is the operand of the one behind it: a quantiser's factor goes into the weights,
/// and its offset into the bias.
FoldedDepthwise quantised(const FoldedDepthwise& layer, const dense::Quantiser& quantiser) {
  const std::size_t channels = quantiser.scale.size();
  FoldedDepthwise scaled{layer.branches, {}, core::Buffer<float>(channels)};
  for (const core::Buffer<float>& weights : layer.weights) {
    core::Buffer<float>& to = scaled.weights.emplace_back(weights.size());
    const std::size_t taps = weights.size() / channels;
    for (std::size_t i = 0; i < weights.size(); ++i) to[i] = quantiser.scale[i / taps] * weights[i];
  }
  for (std::size_t c = 0; c < channels; ++c)
    scaled.bias[c] = quantiser.scale[c] * layer.bias[c] + quantiser.offset[c];
  return scaled;
}

DataType stored_as(Element element) {
  return element == Element::bf16 ? DataType::bf16 : element == Element::u8 ? DataType::u8 : DataType::f32;
}

void set(Parameters& parameters, FoldedDepthwise folded) {
  for (const auto& weights : folded.weights) parameters.weight_bytes += weights.size() * sizeof(float);
  parameters.weight_bytes += folded.bias.size() * sizeof(float);
  parameters.depthwise = std::move(folded);
}

}  // namespace

MapSize Depthwise::output_size(const MapSize& in) const {
  const auto& [kernel_h, kernel_w, dilation_h, dilation_w] = branches[0];
  return strided(in, kernel_h, kernel_w, kernel_h / 2, kernel_w / 2, stride);
}

LayerKind Depthwise::kind() const {
  return branches[0].kernel_h >= 7 || branches[0].kernel_w >= 7 ? LayerKind::large_depthwise
                                                                : LayerKind::small_depthwise;
}

double Depthwise::macs(const Layer& layer, const Parameters& parameters, const MapSize& in) const {
  double taps = 0;
  for (const auto& branch : parameters.depthwise.branches) taps += branch.taps();
  return static_cast<double>(output_size(in).pixels()) * layer.outputs * taps;
}

void Depthwise::load(const Layer& layer, Parameters& parameters, TensorReader& reader, int threads) const {
  set(parameters, fold_depthwise(*this, layer.outputs, reader, threads));
}

void Depthwise::load_stored(const Layer& layer, Parameters& parameters, TensorReader& reader) const {
  set(parameters, read_depthwise(layer, *this, reader));
}

std::unique_ptr<Step> Depthwise::prepare(const Layer& layer, const Parameters& parameters, const MapSize& in,
                                         const StepPlace& place, const StepOptions& options) const {
  const depthwise::Problem planned =
      problem(layer, parameters.depthwise.branches, in, options.numerics, place);
  if (place.flow.copy != Element::u8)
    return std::make_unique<DepthwiseStep>(planned, parameters.depthwise, options);
  return std::make_unique<DepthwiseStep>(planned, quantised(parameters.depthwise, place.next->quantiser),
                                         options);
}

depthwise::Problem Depthwise::problem(const Layer& layer, const std::vector<depthwise::Branch>& those,
                                      const MapSize& in, depthwise::Numerics numerics,
                                      const StepPlace& place) const {
  depthwise::Problem problem;
  problem.batch = in.batch;
  problem.channels = layer.inputs;
  problem.height = in.height;
  problem.width = in.width;
  problem.branches = those;
  depthwise::set_default_padding(problem);
  if (place.rows) problem.pad_h = {place.rows->before, place.rows->after};
  problem.stride_h = problem.stride_w = stride;
  problem.numerics = numerics;
  problem.type = stored_as(place.flow.src);
  const DataType result = stored_as(place.flow.copy);
  if (result != problem.type) problem.out_type = result;
  problem.epilogue = {true, layer.activation, layer.residual >= 0};
  return problem;
}

}  // namespace replk::model
