// An architecture as a flat list of layers. Each names its tensors in the checkpoint; what of them is folded
// into it (BN before and behind, layer scale, GRN's beta) is stated here and done by fold.hpp.
#pragma once
#include <array>
#include <string>
#include <vector>

#include "core/types.hpp"
#include "depthwise/problem/problem.hpp"
#include "model/architecture.hpp"
#include "model/weight_source.hpp"

namespace replk::model {

/// The names of one convolution or linear layer in a checkpoint. Empty: there is none in any form. Where both
/// a BN and a bias are named, train form has the BN and fused form the bias.
struct ConvTensors {
  std::string weight, bias;
  std::string batch_norm;  // prefix: .weight .bias .running_mean .running_var
  Shape shape;             // of the weight, as PyTorch has it
  double bn_epsilon = 1e-5;
};

enum class Operation {
  depthwise,       // branches summed, bias, activation
  linear,          // per pixel: bias, activation, residual
  convolution,     // dense, k x k
  layer_norm,      // per pixel over channels, then activation
  grn,             // global response normalisation, in place of its input
  squeeze_excite,  // channels scaled by two small linear layers on the mean, in place of its input
  relu6_clamp,     // min(x, 6), in place of its input: with an epilogue's ReLU, ReLU6
  mean,            // over pixels
};

struct Layer {
  Operation operation = Operation::linear;
  std::string name;  // where it is: stages.0.blocks.0.pw1
  int src = 0, dst = 0;
  int residual = -1;  // added after the activation; -1: none
  int inputs = 0, outputs = 0;
  int hidden = 0;  // of squeeze_excite
  // Of depthwise: the first branch's; padding is floor(kernel / 2) for depthwise.
  int kernel_h = 1, kernel_w = 1, stride = 1, padding = 0;
  Activation activation = Activation::none;

  /// What is computed: one for linear and convolution, any number of summed ones for depthwise, two (down,
  /// up) for squeeze_excite; layer_norm and grn: weight and bias alone.
  std::vector<ConvTensors> tensors;
  std::vector<depthwise::Branch> branches;  // of depthwise, beside tensors
  /// Depthwise: the names where all branches are merged (weight and bias both needed); empty weight: no such
  /// form.
  ConvTensors merged;
  /// A BN behind the sum of the branches; absent in merged form.
  std::string sum_batch_norm;
  /// Folded into a linear layer: a BN of its input, or an offset of it (GRN's beta).
  std::string input_batch_norm, input_offset;
  /// Layer scale, folded in behind everything.
  std::string output_scale;
  /// UniRepLKNet's deploy form lacks the offset and the scale where it has a bias in the BN's place.
  bool fused_form_lacks_affine = false;
  double epsilon = 1e-6;  // of layer_norm and grn
};

struct Value {
  int channels = 0;
  bool rectified = false;  // made by ReLU or GELU: seeded weights allow for the lost half
};

struct Stage {
  int value = -1;               // what the stage gives, before any norm
  std::string norm_batch_norm;  // prefix of norm_intermediate_features' BN; empty where the family has none
};

/// Value 0 is the input (3 channels). Layers stand in the order they run.
struct Graph {
  std::vector<Value> values;
  std::vector<Layer> layers;
  std::array<Stage, 4> stages;
  int features_end = 0;  // layers from here on are the head's
  int logits = -1;       // -1: no head
};

/// classes 0: no head.
Graph build_graph(const Architecture& architecture, int classes);

/// Name of the classifier's weight, whose first side is the number of classes.
std::string head_weight(const Architecture& architecture);

}  // namespace replk::model
