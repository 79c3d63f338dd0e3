#include "model/operation/linear.hpp"

#include <fmt/format.h>

#include "model/steps.hpp"
#include "model/stored_layer.hpp"

namespace replk::model {
namespace {

class LinearStep : public Step {
 public:
  LinearStep(const dense::Linear& linear, const Parameters& parameters, const StepPlace& place,
             const StepOptions& options)
      : plan_(linear, parameters.linear, plan_options(place, parameters.precision, options)) {}
  std::size_t scratch_bytes() const override { return plan_.scratch_bytes(); }
  void run(const StepRun& run) const override {
    plan_.run({run.src, run.dst, run.copy, run.residual, run.scratch, next_});
  }
  core::Prefetch prefetch() const override { return plan_.prefetch(); }
  void prefetch_next(core::Prefetch next) override { next_ = next; }
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
  core::Prefetch next_;
};

void set(Parameters& parameters, const Layer& layer, const FoldedDense& folded) {
  parameters.weight_bytes = (folded.weights.size() + folded.bias.size()) * sizeof(float);
  parameters.linear = std::make_shared<dense::LinearWeights>(
      layer.inputs, layer.outputs, view(folded.weights), view(folded.bias), parameters.precision);
}

void set_int8(Parameters& parameters, const Layer& layer, Int8Linear made) {
  parameters.weight_bytes =
      made.weights.size() + (made.multiplier.size() + made.quantiser.scale.size()) * 2 * sizeof(float);
  parameters.linear = std::make_shared<dense::LinearWeights>(
      layer.inputs, layer.outputs,
      dense::Int8Weights{made.weights, made.multiplier, made.bias, &made.quantiser});
  parameters.quantiser = std::move(made.quantiser);
}

}  // namespace

double Linear::macs(const Layer& layer, const Parameters&, const MapSize& in) const {
  return static_cast<double>(in.pixels()) * layer.outputs * layer.inputs;
}

void Linear::load(const Layer& layer, Parameters& parameters, TensorReader& reader, int threads) const {
  set(parameters, layer, fold_linear(*this, reader, threads));
}

void Linear::load_stored(const Layer& layer, Parameters& parameters, TensorReader& reader) const {
  parameters.precision = stored_precision(*this, reader);
  if (parameters.precision == Precision::int8)
    set_int8(parameters, layer, read_int8(*this, reader));
  else
    set(parameters, layer, read_linear(*this, reader));
}

std::unique_ptr<Step> Linear::prepare(const Layer& layer, const Parameters& parameters, const MapSize& in,
                                      const StepPlace& place, const StepOptions& options) const {
  return std::make_unique<LinearStep>(at(layer, parameters.precision, place.flow, in), parameters, place,
                                      options);
}

dense::Linear Linear::at(const Layer& layer, Precision precision, const LayerFlow& flow,
                         const MapSize& in) const {
  return {in.pixels(),         layer.inputs, layer.outputs, true,        layer.activation,
          layer.residual >= 0, precision,    flow.src,      flow.result, flow.copy};
}

}  // namespace replk::model
