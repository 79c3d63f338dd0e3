// Channels scaled by two small linear layers on their means, in place (arXiv 1709.01507).
#pragma once
#include "model/operation/operation.hpp"

namespace replk::model {

struct SqueezeExcite {
  int hidden = 0;
  ConvTensors down, up;

  MapSize output_size(const MapSize& in) const { return in; }
  LayerKind kind() const { return LayerKind::other; }
  double macs(const Layer& layer, const Parameters& parameters, const MapSize& in) const;
  void load(const Layer& layer, Parameters& parameters, TensorReader& reader, int threads) const;
  void load_stored(const Layer& layer, Parameters& parameters, TensorReader& reader) const;
  std::unique_ptr<Step> prepare(const Layer& layer, const Parameters& parameters, const MapSize& in,
                                const StepPlace& place, const StepOptions& options) const;
};

}  // namespace replk::model
