#include "layer_plan.hpp"

#include "tensors.hpp"

namespace replk_torch {

void LayerPlan::set_weights(const float* const* weights, const float* bias) {
  check(replk_depthwise_set_weights(forward_.get(), weights, bias));
  for (const auto& [key, plan] : gradients_) check(replk_depthwise_gradient_set_weights(plan.get(), weights));
}

Plans<LayerPlan>& layer_plans() {
  // Lives until the process ends: calls may come from any destructor.
  static auto* const all = new Plans<LayerPlan>;
  return *all;
}

}  // namespace replk_torch
