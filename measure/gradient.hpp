// One row of `replk bench gradient`: what one step of training asks of a layer.
#pragma once
#include <cstddef>
#include <cstdint>
#include <functional>
#include <span>
#include <string>
#include <vector>

#include "depthwise/problem/problem.hpp"
#include "measure/race.hpp"

namespace replk::bench {

struct GradientRow {
  std::string shape;
  int threads = 1;
  // Medians. set_weights_ms: other weights for the forward pass and for the gradient of the input.
  double forward_ms = 0, input_gradient_ms = 0, weight_gradient_ms = 0, set_weights_ms = 0;
  double step_ms() const { return forward_ms + input_gradient_ms + weight_gradient_ms + set_weights_ms; }
  std::string forward_tiling, weight_gradient_tiling;
  std::vector<std::string> input_gradient_tilings;  // one a convolution that it is made of
  /// Of what was compared with the double reference, over the channel's largest gradient (of its image, for
  /// that of the input).
  double input_gradient_error = 0, weight_gradient_error = 0;
  int checked_channels = 0;
  double peak_gflops = 0;                               // multiply-add peak of all threads
  std::size_t workspace_bytes = 0, prepared_bytes = 0;  // of both gradients
};

/// What a step of fp32 tensors has made, before it is checked: dweights of the first branch.
struct Gradients {
  std::span<float> dx, dweights, dbias;
};

struct GradientOptions {
  int threads = 0;  // 0: all
  RaceOptions race;
  std::uint64_t seed = 1;
  std::function<void(const Gradients&)> spoil;  // for tests of the check: what makes a result wrong
};

/// Plans, checks both gradients of some channels against the double references, and only then times. Throws
/// core::Error(internal), naming shape and error, where one is outside its numerics class.
GradientRow measure_gradient(const depthwise::Problem& problem, const GradientOptions& options = {});

}  // namespace replk::bench
