#include "model/flow.hpp"

#include <algorithm>

#include "core/tile_order.hpp"
#include "dense/dense.hpp"

namespace replk::model {
namespace {

/// The layer whose result stands in a value when `reader` runs; -1: the network's input.
int writer_of(const Graph& graph, int value, int reader) {
  for (int i = reader - 1; i >= 0; --i)
    if (graph.layers[static_cast<std::size_t>(i)].dst == value) return i;
  return -1;
}

bool is_norm(const Layer& layer) {
  return layer.is<LayerNorm>() || layer.is<Grn>();
}

/// Kernels from this side on go through row passes that convert in registers; what computes smaller ones
/// would copy rows to do it.
constexpr int least_narrow_kernel = 13;

bool converts(const Layer& layer) {
  const auto* depthwise = layer.as<Depthwise>();
  if (!depthwise || layer.residual >= 0) return false;
  const depthwise::Branch& largest = depthwise->branches[0];
  return std::min(largest.kernel_h, largest.kernel_w) >= least_narrow_kernel;
}

/// Products in a narrow type have an epilogue for it, norms that follow one value by value too.
bool writes_copies(const Layer& layer, Precision precision, Element copy, bool from_zero) {
  if (converts(layer))
    return copy == Element::bf16 ||
           (copy == Element::u8 && (from_zero || layer.activation == Activation::none));
  return precision != Precision::fp32 || is_norm(layer);
}

bool is_output(const Graph& graph, int value) {
  return value == graph.logits || std::any_of(graph.stages.begin(), graph.stages.end(),
                                              [&](const Stage& stage) { return stage.value == value; });
}

/// If all that reads a result reads its copy, only the copy is written. A norm writes only one of the two: if
/// the copy is not enough, it writes none.
void drop_results(const Graph& graph, std::vector<LayerFlow>& flow) {
  const int layers = static_cast<int>(graph.layers.size());
  for (int writer = 0; writer < layers; ++writer) {
    LayerFlow& from = flow[static_cast<std::size_t>(writer)];
    const int value = graph.layers[static_cast<std::size_t>(writer)].dst;
    if (from.copy == Element::f32) continue;
    from.result = is_output(graph, value);
    for (int i = writer + 1; i < layers && !from.result; ++i) {
      const Layer& layer = graph.layers[static_cast<std::size_t>(i)];
      const bool reads = layer.src == value && flow[static_cast<std::size_t>(i)].copy_from != writer;
      from.result = reads || layer.residual == value;
      if (layer.dst == value) break;
    }
    if (from.result && !graph.layers[static_cast<std::size_t>(writer)].is<Linear>()) {
      flow[static_cast<std::size_t>(from.copy_for)].src = Element::f32;
      flow[static_cast<std::size_t>(from.copy_for)].copy_from = -1;
      from.copy = Element::f32;
      from.copy_for = -1;
    }
  }
}

/// Behind drop_results(): a depthwise layer that writes u8 reads bf16 where a product can write it.
void read_bf16(const Graph& graph, const std::vector<Precision>& precision, std::vector<LayerFlow>& flow) {
  for (int reader = 0; reader < static_cast<int>(graph.layers.size()); ++reader) {
    const Layer& layer = graph.layers[static_cast<std::size_t>(reader)];
    LayerFlow& own = flow[static_cast<std::size_t>(reader)];
    const int writer = writer_of(graph, layer.src, reader);
    if (!layer.is<Depthwise>() || own.copy != Element::u8 || writer < 0) continue;
    LayerFlow& from = flow[static_cast<std::size_t>(writer)];
    if (precision[static_cast<std::size_t>(writer)] == Precision::fp32 || from.copy != Element::f32) continue;
    from.copy = own.src = Element::bf16;
    from.copy_for = reader;
    own.copy_from = writer;
  }
}

}  // namespace

Element operand_of(Precision precision, int inputs, bool tiles) {
  Element rows = Element::f32, whole = Element::f32;
  if (precision == Precision::bf16) rows = Element::bf16, whole = Element::bf16_tiles;
  if (precision == Precision::int8) rows = Element::u8, whole = Element::u8_tiles;
  if (precision == Precision::bf16x3) whole = Element::bf16x2_tiles;
  return tiles && inputs % core::TileOrder::step_channels(whole) == 0 ? whole : rows;
}

std::vector<LayerFlow> plan_flow(const Graph& graph, const std::vector<Precision>& precision,
                                 const std::function<bool(int)>& from_zero) {
  const int layers = static_cast<int>(graph.layers.size());
  std::vector<LayerFlow> flow(graph.layers.size());
  for (int reader = 0; reader < layers; ++reader) {
    const Layer& layer = graph.layers[static_cast<std::size_t>(reader)];
    const Precision own = precision[static_cast<std::size_t>(reader)];
    const int writer = writer_of(graph, layer.src, reader);
    if (own == Precision::fp32 || writer < 0) continue;
    const Layer& before = graph.layers[static_cast<std::size_t>(writer)];
    const Precision of_writer = precision[static_cast<std::size_t>(writer)];
    LayerFlow& from = flow[static_cast<std::size_t>(writer)];
    if (from.copy != Element::f32) continue;  // one copy: the first reader's
    const bool tiles =
        dense::multiplies_tiles(own) && (is_norm(before) || dense::multiplies_tiles(of_writer));
    const Element operand = operand_of(own, layer.inputs, tiles);
    if (operand == Element::f32 ||
        !writes_copies(before, of_writer, operand, !from_zero || from_zero(reader)))
      continue;
    from.copy = operand;
    from.copy_for = reader;
    flow[static_cast<std::size_t>(reader)].src = operand;
    flow[static_cast<std::size_t>(reader)].copy_from = writer;
  }
  drop_results(graph, flow);
  read_bf16(graph, precision, flow);
  drop_results(graph, flow);
  return flow;
}

}  // namespace replk::model
