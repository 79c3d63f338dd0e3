// What images say of the inputs of a network's layers, for quantising them.
#pragma once
#include <map>
#include <vector>

#include "model/network.hpp"
#include "model/quantise.hpp"

namespace replk::model {

/// Collects over images, run one after another. The network, in fp32, and its source outlive it.
class Calibration {
 public:
  /// images: how many will come; what is kept of each depends on it.
  Calibration(Network& network, const WeightSource& source, int images);

  /// One image, batch 1. Throws bad_file where a layer's input is not finite.
  void add(const Input& image);
  /// Of the layers that a precision is about, by their index in the graph.
  std::map<int, InputKnowledge> result() const;

 private:
  struct Seen {
    Affine batch_norm;  // of the input; empty for none
    std::vector<double> sum, squares, low, high;
    std::int64_t rows = 0;
    std::vector<float> samples;
  };
  void see(int layer, const float* src, std::int64_t rows);

  Network& network_;
  int rows_an_image_;
  double margin_;  // of ranges, over what was seen
  std::map<int, Seen> seen_;
};

}  // namespace replk::model
