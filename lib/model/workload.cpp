#include "model/workload.hpp"

#include <algorithm>
#include <optional>

#include "core/cpu.hpp"
#include "model/bands.hpp"
#include "model/fold.hpp"
#include "model/graph.hpp"
#include "model/precision.hpp"
#include "model/steps.hpp"

namespace replk::model {
namespace {

template <class Item>
void add_once(std::vector<Item>& all, const Item& item) {
  if (std::find(all.begin(), all.end(), item) == all.end()) all.push_back(item);
}

void add_linear(Workload& all, const dense::Linear& linear) {
  const auto at = std::find(all.linears.begin(), all.linears.end(), linear) - all.linears.begin();
  add_once(all.linears, linear);
  all.linear_runs.resize(all.linears.size());
  all.linear_runs[static_cast<std::size_t>(at)]++;
}

/// What a layer works on: its map, or the bands of it that differ.
struct Piece {
  MapSize in;
  std::optional<RowPadding> rows = {};
  bool band = false;
};

std::vector<std::vector<Piece>> pieces_of(const Graph& graph, const std::vector<LayerFlow>& flow,
                                          const std::vector<MapSize>& sizes) {
  std::vector<std::vector<Piece>> pieces;
  for (const Layer& layer : graph.layers) pieces.push_back({{sizes[layer.src]}});
  for (const Chain& chain : find_chains(graph, flow, sizes, core::cpu().l2_bytes)) {
    for (std::size_t i = chain.first; i < chain.end; i++) pieces[i].clear();
    for (int band = 0; band < chain.bands; band++) {
      const std::vector<BandRows> rows = rows_of_band(graph, sizes, chain, band);
      for (std::size_t i = chain.first; i < chain.end; i++) {
        const BandRows& own = rows[i - chain.first];
        pieces[i].push_back({{1, own.count(), sizes[graph.layers[i].src].width}, own.padding, true});
      }
    }
  }
  return pieces;
}

}  // namespace

NetworkWorkload workload(const Architecture& architecture, const MapSize& input, int classes,
                         Precision precision, depthwise::Numerics numerics) {
  const Graph graph = build_graph(architecture, classes);
  std::vector<Precision> precisions;
  for (const bool narrow : narrow_layers(graph)) precisions.push_back(narrow ? precision : Precision::fp32);
  const std::vector<LayerFlow> flow = plan_flow(graph, precisions);
  std::vector<MapSize> sizes(graph.values.size());
  sizes[0] = input;
  for (const Layer& layer : graph.layers) sizes[layer.dst] = output_size(layer, sizes[layer.src]);
  const std::vector<std::vector<Piece>> pieces = pieces_of(graph, flow, sizes);
  NetworkWorkload both;
  for (std::size_t i = 0; i < graph.layers.size(); ++i)
    for (const auto& [in, rows, band] : pieces[i]) {
      const Layer& layer = graph.layers[i];
      Workload& all = band ? both.bands : both.whole;
      std::visit(
          Overloaded{
              [&, in = in, rows = rows](const Depthwise& d) {
                add_once(all.depthwise, d.problem(layer, merged_branches(d.branches), in, numerics,
                                                  {flow[i], nullptr, rows}));
              },
              [&, in = in](const Linear& l) { add_linear(all, l.at(layer, precisions[i], flow[i], in)); },
              [&, in = in, rows = rows](const Convolution& c) {
                add_once(all.convolutions, c.at(layer, in, rows));
              },
              [&, in = in](const SqueezeExcite& s) {
                add_linear(all, {in.batch, layer.inputs, s.hidden, true, Activation::relu, false});
                add_linear(all, {in.batch, s.hidden, layer.inputs, true, Activation::none, false});
              },
              [](const Norm&) {}, [](const Weightless&) {}},
          layer.operation);
    }
  return both;
}

}  // namespace replk::model
