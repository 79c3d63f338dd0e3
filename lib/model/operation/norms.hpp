// Norms: over the channels of a pixel, and of the channels' responses over a map.
#pragma once
#include "model/operation/operation.hpp"

namespace replk::model {

/// What both are: a gain, and perhaps an offset.
struct Norm {
  ConvTensors tensors;  // weight and bias alone
  double epsilon = 1e-6;

  MapSize output_size(const MapSize& in) const { return in; }
  LayerKind kind() const { return LayerKind::norm; }
  double macs(const Layer&, const Parameters&, const MapSize&) const { return 0; }
  void load(const Layer& layer, Parameters& parameters, TensorReader& reader, int threads) const;
  void load_stored(const Layer& layer, Parameters& parameters, TensorReader& reader) const;
};

/// Per pixel over channels, then activation.
struct LayerNorm : Norm {
  std::unique_ptr<Step> prepare(const Layer& layer, const Parameters& parameters, const MapSize& in,
                                const StepPlace& place, const StepOptions& options) const;
};

/// Global response normalisation, in place of its input.
struct Grn : Norm {
  std::unique_ptr<Step> prepare(const Layer& layer, const Parameters& parameters, const MapSize& in,
                                const StepPlace& place, const StepOptions& options) const;
};

}  // namespace replk::model
