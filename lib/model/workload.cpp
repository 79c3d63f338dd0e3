#include "model/workload.hpp"

#include <algorithm>

#include "model/fold.hpp"
#include "model/graph.hpp"
#include "model/precision.hpp"

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

}  // namespace

Workload workload(const Architecture& architecture, const MapSize& input, int classes, Precision precision,
                  depthwise::Numerics numerics) {
  const Graph graph = build_graph(architecture, classes);
  std::vector<Precision> precisions;
  for (const bool narrow : narrow_layers(graph)) precisions.push_back(narrow ? precision : Precision::fp32);
  const std::vector<LayerFlow> flow = plan_flow(graph, precisions);
  std::vector<MapSize> sizes(graph.values.size());
  sizes[0] = input;
  Workload all;
  for (std::size_t i = 0; i < graph.layers.size(); ++i) {
    const Layer& layer = graph.layers[i];
    const MapSize in = sizes[layer.src];
    sizes[layer.dst] = output_size(layer, in);
    std::visit(
        Overloaded{[&](const Depthwise& d) {
                     add_once(all.depthwise, d.problem(layer, merged_branches(d.branches), in, numerics));
                   },
                   [&](const Linear& l) { add_linear(all, l.at(layer, precisions[i], flow[i], in)); },
                   [&](const Convolution& c) { add_once(all.convolutions, c.at(layer, in)); },
                   [&](const SqueezeExcite& s) {
                     add_linear(all, {in.batch, layer.inputs, s.hidden, true, Activation::relu, false});
                     add_linear(all, {in.batch, s.hidden, layer.inputs, true, Activation::none, false});
                   },
                   [](const Norm&) {}, [](const Weightless&) {}},
        layer.operation);
  }
  return all;
}

}  // namespace replk::model
