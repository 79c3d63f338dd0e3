// What a network computes at one input size, without its weights: for tuning it before it is loaded.
#pragma once
#include <cstdint>
#include <vector>

#include "dense/dense.hpp"
#include "depthwise/problem/problem.hpp"
#include "model/architecture.hpp"
#include "model/steps.hpp"

namespace replk::model {

/// Layers that the tuner decides on, each once, in the order they first run.
struct Workload {
  std::vector<depthwise::Problem> depthwise;
  std::vector<dense::Convolution> convolutions;
  std::vector<dense::Linear> linears;
  std::vector<int> linear_runs;  // how often each of these runs
};
struct NetworkWorkload {
  Workload whole;  // on the network's threads
  Workload bands;  // layers of chains (bands.hpp), in bands: each on one thread, whatever the network has
};
/// Of a checkpoint in train form with this many classes (0: no head), all layers that a precision is about in
/// this one. Throws invalid_argument where a map would vanish.
NetworkWorkload workload(const Architecture& architecture, const MapSize& input, int classes,
                         Precision precision = Precision::fp32,
                         depthwise::Numerics numerics = depthwise::Numerics::fast);

}  // namespace replk::model
