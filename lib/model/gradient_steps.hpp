// A layer at one input size that can be run backwards, from the gradient of its output to that of its input.
#pragma once
#include <cstddef>
#include <memory>

#include "model/steps.hpp"

namespace replk::model {

/// Whether the layer's input has to be there for backward(); then the gradient of the input takes the place
/// of that of the output as well.
bool works_on_source(const Layer& layer);

/// Immutable. Layer and parameters outlive it.
class GradientStep {
 public:
  virtual ~GradientStep() = default;
  /// What forward() leaves for backward().
  virtual std::size_t kept_bytes() const = 0;
  /// Of either direction.
  virtual std::size_t scratch_bytes() const = 0;
  virtual void forward(const float* src, float* dst, const float* residual, void* kept,
                       void* scratch) const = 0;
  /// dst_gradient is destroyed, unless the layer has a residual. src: the layer's input where
  /// works_on_source(), otherwise null.
  virtual void backward(const float* src, const void* kept, float* dst_gradient, float* src_gradient,
                        void* scratch) const = 0;
};

/// accumulates: src_gradient holds a gradient already, to which this one is added. Throws unsupported, naming
/// the layer, where that or the layer itself cannot be done.
std::unique_ptr<GradientStep> prepare_gradient_step(const Layer& layer, const Parameters& parameters,
                                                    const MapSize& in, bool accumulates,
                                                    const StepOptions& options);

}  // namespace replk::model
