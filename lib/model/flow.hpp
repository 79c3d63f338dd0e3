// What values are stored as between layers: fp32, or what the next product multiplies, written by the layer
// before it.
#pragma once
#include <functional>
#include <vector>

#include "core/types.hpp"
#include "model/graph.hpp"

namespace replk::model {

struct LayerFlow {
  Element src = Element::f32;  // what it reads; f32: a narrow layer makes its operand itself
  bool result = true;          // writes its result in fp32
  /// Writes it (also) as what a later layer multiplies; f32: no.
  Element copy = Element::f32;
  int copy_for = -1;   // that layer
  int copy_from = -1;  // of a layer that reads a copy: the layer that wrote it
};

/// What a product in this precision multiplies with and the layer before it may write: bf16 of bf16, u8 of
/// int8, in tiles where both can; of bf16x3 two bf16 in tiles; else f32.
Element operand_of(Precision precision, int inputs, bool tiles);

/// precision: of each layer; fp32 of what is not linear. A layer's result stays in fp32 where anything reads
/// it so: residuals, convolutions, norms, the stages' maps. A large depthwise layer writes the operand of the
/// product that alone reads it; before int8, whose eight bits lose far more, it reads bf16 too.
/// from_zero: of an int8 layer, whether its quantiser has no offset and positive factors, so that what clamps
/// a value to u8 does what ReLU would have done. Without it, all are so.
std::vector<LayerFlow> plan_flow(const Graph& graph, const std::vector<Precision>& precision,
                                 const std::function<bool(int layer)>& from_zero = {});

}  // namespace replk::model
