// What has no weights.
#pragma once
#include "model/operation/operation.hpp"

namespace replk::model {

struct Weightless {
  LayerKind kind() const { return LayerKind::other; }
  double macs(const Layer&, const Parameters&, const MapSize&) const { return 0; }
  void load(const Layer&, Parameters&, TensorReader&, int) const {}
  void load_stored(const Layer&, Parameters&, TensorReader&) const {}
};

/// min(x, 6), in place of its input: with an epilogue's ReLU, ReLU6.
struct Clamp : Weightless {
  MapSize output_size(const MapSize& in) const { return in; }
  std::unique_ptr<Step> prepare(const Layer& layer, const Parameters& parameters, const MapSize& in,
                                const StepPlace& place, const StepOptions& options) const;
};

/// Over pixels.
struct Mean : Weightless {
  MapSize output_size(const MapSize& in) const { return {in.batch, 1, 1}; }
  std::unique_ptr<Step> prepare(const Layer& layer, const Parameters& parameters, const MapSize& in,
                                const StepPlace& place, const StepOptions& options) const;
};

}  // namespace replk::model
