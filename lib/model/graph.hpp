// An architecture as a flat list of layers. Each names its tensors in the checkpoint; what of them is folded
// into it (BN before and behind, layer scale, GRN's beta) is stated here and done by fold.hpp.
#pragma once
#include <array>
#include <string>
#include <variant>
#include <vector>

#include "core/types.hpp"
#include "model/architecture.hpp"
#include "model/operation/convolution.hpp"
#include "model/operation/depthwise.hpp"
#include "model/operation/linear.hpp"
#include "model/operation/norms.hpp"
#include "model/operation/squeeze_excite.hpp"
#include "model/operation/weightless.hpp"

namespace replk::model {

using Operation = std::variant<Depthwise, Linear, Convolution, LayerNorm, Grn, SqueezeExcite, Clamp, Mean>;

struct Layer {
  std::string name;  // where it is: stages.0.blocks.0.pw1
  int src = 0, dst = 0;
  int residual = -1;  // added after the activation; -1: none
  int inputs = 0, outputs = 0;
  Activation activation = Activation::none;
  Operation operation;

  /// The operation, where it is of this type; else null.
  template <class T>
  const T* as() const {
    return std::get_if<T>(&operation);
  }
  template <class T>
  bool is() const {
    return std::holds_alternative<T>(operation);
  }
};

/// A visitor made of lambdas.
template <class... F>
struct Overloaded : F... {
  using F::operator()...;
};
template <class... F>
Overloaded(F...) -> Overloaded<F...>;  // Clang 14 does not deduce an aggregate's arguments

inline MapSize output_size(const Layer& layer, const MapSize& in) {
  return std::visit([&](const auto& operation) { return operation.output_size(in); }, layer.operation);
}
inline LayerKind kind_of(const Layer& layer) {
  return std::visit([](const auto& operation) { return operation.kind(); }, layer.operation);
}

struct Value {
  int channels = 0;
  bool rectified = false;  // made by ReLU or GELU: seeded weights allow for the lost half
};

struct Stage {
  int value = -1;              // what the stage gives, before any norm
  std::string norm;            // prefix of the norm that features may pass; empty where the family has none
  bool over_channels = false;  // it is a layer norm over a pixel's channels, not a BN

  /// Names of the norm's tensors, a BN's counter apart.
  std::vector<std::string> norm_tensors() const;
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
