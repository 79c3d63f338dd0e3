// A dense k x k convolution, bias, activation.
#pragma once
#include <optional>

#include "dense/dense.hpp"
#include "model/operation/operation.hpp"

namespace replk::model {

struct Convolution {
  ConvTensors tensors;
  int stride = 1, padding = 0;

  int kernel_h() const { return static_cast<int>(tensors.shape[2]); }
  int kernel_w() const { return static_cast<int>(tensors.shape[3]); }

  MapSize output_size(const MapSize& in) const {
    return strided(in, kernel_h(), kernel_w(), padding, padding, stride);
  }
  LayerKind kind() const { return LayerKind::dense_conv; }
  double macs(const Layer& layer, const Parameters& parameters, const MapSize& in) const;
  void load(const Layer& layer, Parameters& parameters, TensorReader& reader, int threads) const;
  void load_stored(const Layer& layer, Parameters& parameters, TensorReader& reader) const;
  std::unique_ptr<Step> prepare(const Layer& layer, const Parameters& parameters, const MapSize& in,
                                const StepPlace& place, const StepOptions& options) const;

  /// rows: of a band (bands.hpp), of which no row of the result reaches the padding below.
  dense::Convolution at(const Layer& layer, const MapSize& in,
                        const std::optional<RowPadding>& rows = {}) const;
};

}  // namespace replk::model
