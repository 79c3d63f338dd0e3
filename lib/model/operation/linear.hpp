// A matrix product a pixel, bias, activation, residual.
#pragma once
#include "dense/dense.hpp"
#include "model/operation/operation.hpp"

namespace replk::model {

struct Linear {
  ConvTensors tensors;
  /// Folded in: a BN of its input, or an offset of it (GRN's beta).
  std::string input_batch_norm, input_offset;
  /// Layer scale, folded in behind everything.
  std::string output_scale;
  /// Stays fp32 in every precision.
  bool wide = false;
  /// UniRepLKNet's deploy form lacks the offset and the scale where it has a bias in the BN's place.
  bool fused_form_lacks_affine = false;

  MapSize output_size(const MapSize& in) const { return in; }
  LayerKind kind() const { return LayerKind::pointwise; }
  double macs(const Layer& layer, const Parameters& parameters, const MapSize& in) const;
  void load(const Layer& layer, Parameters& parameters, TensorReader& reader, int threads) const;
  void load_stored(const Layer& layer, Parameters& parameters, TensorReader& reader) const;
  std::unique_ptr<Step> prepare(const Layer& layer, const Parameters& parameters, const MapSize& in,
                                const StepPlace& place, const StepOptions& options) const;

  dense::Linear at(const Layer& layer, Precision precision, const LayerFlow& flow, const MapSize& in) const;
};

}  // namespace replk::model
