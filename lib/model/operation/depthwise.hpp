// Branches that are summed, bias, activation.
#pragma once
#include <optional>

#include "depthwise/problem/problem.hpp"
#include "model/operation/operation.hpp"

namespace replk::model {

struct Depthwise {
  int stride = 1;
  std::vector<ConvTensors> tensors;  // of each branch
  /// The first is the largest; padding is the floor of half its sides.
  std::vector<depthwise::Branch> branches;
  /// The names where all branches are merged (weight and bias both needed); empty weight: no such form.
  ConvTensors merged;
  /// A BN behind the sum of the branches; absent in merged form.
  std::string sum_batch_norm;

  MapSize output_size(const MapSize& in) const;
  LayerKind kind() const;
  double macs(const Layer& layer, const Parameters& parameters, const MapSize& in) const;
  void load(const Layer& layer, Parameters& parameters, TensorReader& reader, int threads) const;
  void load_stored(const Layer& layer, Parameters& parameters, TensorReader& reader) const;
  std::unique_ptr<Step> prepare(const Layer& layer, const Parameters& parameters, const MapSize& in,
                                const StepPlace& place, const StepOptions& options) const;

  /// With these branches, which are its own, or those that are left of them.
  depthwise::Problem problem(const Layer& layer, const std::vector<depthwise::Branch>& branches,
                             const MapSize& in, depthwise::Numerics numerics, const StepPlace& place) const;
};

}  // namespace replk::model
