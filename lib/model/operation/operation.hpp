// What every operation of a network answers. A new one is a header and a source here and a name in
// model::Operation (graph.hpp); the compiler then says which visitors need a case for it. Each has:
//
//   MapSize output_size(in)                   of its result
//   LayerKind kind()                          what a profile counts it as
//   double macs(layer, parameters, in)        of a batch, padding taps counted, branches as folded
//   void load(layer, parameters, reader, threads)    its weights, from train, merged or fused form
//   void load_stored(layer, parameters, reader)      from int8 form (stored_layer.hpp)
//   std::unique_ptr<Step> prepare(layer, parameters, in, place, options)
#pragma once
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "core/types.hpp"
#include "model/network.hpp"
#include "model/weight_source.hpp"

namespace replk::model {

struct Layer;
struct LayerFlow;
struct Parameters;
struct StepOptions;
struct StepPlace;
class Step;
class TensorReader;

/// The size of a layer's input and output.
struct MapSize {
  std::int64_t batch = 1;
  int height = 1, width = 1;
  std::int64_t pixels() const { return batch * height * width; }
};

/// Rows of zeros above and below what a layer works on.
struct RowPadding {
  int before = 0, after = 0;
  bool operator==(const RowPadding&) const = default;
};

/// What a kernel of this size leaves of a map, the same padding on both sides.
inline MapSize strided(const MapSize& in, int kernel_h, int kernel_w, int pad_h, int pad_w, int stride) {
  return {in.batch, (in.height + 2 * pad_h - kernel_h) / stride + 1,
          (in.width + 2 * pad_w - kernel_w) / stride + 1};
}

/// The names of one convolution or linear layer in a checkpoint. Empty: there is none in any form. Where both
/// a BN and a bias are named, train form has the BN and fused form the bias.
struct ConvTensors {
  std::string weight, bias;
  std::string batch_norm;  // prefix: .weight .bias .running_mean .running_var
  Shape shape;             // of the weight, as PyTorch has it
  double bn_epsilon = 1e-5;
};

}  // namespace replk::model
