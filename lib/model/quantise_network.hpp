// A whole network in int8 form, from its fp32 tensors.
#pragma once
#include <functional>
#include <map>
#include <string>
#include <vector>

#include "model/architecture.hpp"
#include "model/quantise.hpp"
#include "model/stored_tensors.hpp"

namespace replk::model {

struct QuantiseOptions {
  int threads = 0;  // 0: all
  /// What images said of the inputs of the graph's layers, by their index (Calibration); empty: the norms
  /// alone, or noise (noise.hpp) where norms have other statistics than the layers before them.
  std::map<int, InputKnowledge> seen;
  /// Called with the fraction done; returning false cancels (Status::cancelled).
  std::function<bool(double fraction)> progress;
};

struct LayerPrecision {
  std::string layer;
  int inputs = 0, outputs = 0;
  Precision precision = Precision::fp32;
  double error = 0;    // expected in int8; 0: never was to be
  std::string reason;  // why it is not int8
};

struct QuantisedNetwork {
  StoredTensors tensors;
  std::vector<LayerPrecision> layers;  // pointwise and dense ones, in the order they run
};

/// architecture.classes are the checkpoint's. Throws as loading does, and bad_file where weights are not
/// finite or the source is int8 already.
QuantisedNetwork quantise_network(const Architecture& architecture, const WeightSource& source,
                                  const QuantiseOptions& options = {});

/// The same list for a source, whatever its form.
std::vector<LayerPrecision> layer_precisions(const Architecture& architecture, const WeightSource& source);

}  // namespace replk::model
