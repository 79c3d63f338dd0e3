// A layer's plan, and that of the gradient of its input, which shares what the layer has packed: a step of
// training packs its weights once.
#pragma once
#include <replk/replk.h>

#include <memory>
#include <mutex>
#include <utility>
#include <vector>

#include "plans.hpp"

namespace replk_torch {

class LayerPlan {
 public:
  using Gradient = std::shared_ptr<replk_depthwise_gradient>;
  explicit LayerPlan(replk_depthwise* forward) : forward_(forward, replk_depthwise_destroy) {}
  const replk_depthwise* forward() const { return forward_.get(); }

  /// The plan of the gradient with such a key, which `make` makes of the layer where there is none; the
  /// `capacity` made last are kept. Thread-safe.
  template <class Make>
  Gradient gradient(const Key& key, Make make) const {
    const std::lock_guard lock(mutex_);
    for (const auto& [made, plan] : gradients_)
      if (made == key) return plan;
    if (gradients_.size() == capacity) gradients_.erase(gradients_.begin());
    gradients_.emplace_back(key, Gradient(make(forward()), replk_depthwise_gradient_destroy));
    return gradients_.back().second;
  }
  /// Other weights for the layer and then its gradients. Nothing else may use this meanwhile.
  void set_weights(const float* const* weights, const float* bias);

 private:
  static constexpr std::size_t capacity = 4;
  std::unique_ptr<replk_depthwise, void (*)(replk_depthwise*)> forward_;
  mutable std::mutex mutex_;
  mutable std::vector<std::pair<Key, Gradient>> gradients_;
};

/// Of all layers that ran last.
Plans<LayerPlan>& layer_plans();

}  // namespace replk_torch
