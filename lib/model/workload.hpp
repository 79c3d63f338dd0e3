// What a network computes at one input size, without its weights: for tuning it before it is loaded.
#pragma once
#include <cstdint>
#include <vector>

#include "dense/dense.hpp"
#include "depthwise/problem/problem.hpp"
#include "model/architecture.hpp"
#include "model/steps.hpp"

namespace replk::model {

/// The layers that the tuner decides on, each once, in the order they first run.
struct Workload {
  std::vector<depthwise::Problem> depthwise;
  std::vector<dense::Convolution> convolutions;
  std::vector<dense::Linear> linears;
  std::vector<int> linear_runs;  // how often each of these runs
};
/// Of a checkpoint in train form with this many classes (0: no head), all layers that a precision is about in
/// this one. Throws invalid_argument where a map would vanish.
Workload workload(const Architecture& architecture, const MapSize& input, int classes,
                  Precision precision = Precision::fp32,
                  depthwise::Numerics numerics = depthwise::Numerics::fast);

// A layer at one input size, as its box wants it.
depthwise::Problem depthwise_problem(const Layer& layer, const std::vector<depthwise::Branch>& branches,
                                     const MapSize& in, depthwise::Numerics numerics);
dense::Linear linear_layer(const Layer& layer, Precision precision, const LayerFlow& flow, const MapSize& in);
dense::Convolution convolution_layer(const Layer& layer, const MapSize& in);

}  // namespace replk::model
