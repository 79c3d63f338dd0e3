#include "model/steps.hpp"

namespace replk::model {

double macs_of(const Layer& layer, const Parameters& parameters, const MapSize& in) {
  return std::visit([&](const auto& operation) { return operation.macs(layer, parameters, in); },
                    layer.operation);
}

std::unique_ptr<Step> prepare_step(const Layer& layer, const Parameters& parameters, const MapSize& in,
                                   const StepPlace& place, const StepOptions& options) {
  return std::visit(
      [&](const auto& operation) { return operation.prepare(layer, parameters, in, place, options); },
      layer.operation);
}

dense::PlanOptions dense_options(const StepOptions& options, Precision precision) {
  dense::PlanOptions dense_options;
  dense_options.threads = options.threads;
  if (options.fixed_order && precision == Precision::fp32) dense_options.choice = "plain";
  return dense_options;
}

}  // namespace replk::model
