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

depthwise::Problem depthwise_problem(const Layer& layer, const std::vector<depthwise::Branch>& branches,
                                     const MapSize& in, depthwise::Numerics numerics) {
  depthwise::Problem problem;
  problem.batch = in.batch;
  problem.channels = layer.inputs;
  problem.height = in.height;
  problem.width = in.width;
  problem.branches = branches;
  depthwise::set_default_padding(problem);
  problem.stride_h = problem.stride_w = layer.stride;
  problem.numerics = numerics;
  problem.epilogue = {true, layer.activation, layer.residual >= 0};
  return problem;
}

dense::Linear linear_layer(const Layer& layer, Precision precision, const LayerFlow& flow,
                           const MapSize& in) {
  return {in.pixels(),         layer.inputs, layer.outputs, true,        layer.activation,
          layer.residual >= 0, precision,    flow.src,      flow.result, flow.copy};
}

dense::Convolution convolution_layer(const Layer& layer, const MapSize& in) {
  return {in.batch,     layer.inputs, layer.outputs, in.height,     in.width, layer.kernel_h,  layer.kernel_w,
          layer.stride, layer.stride, layer.padding, layer.padding, true,     layer.activation};
}

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
    switch (layer.operation) {
      case Operation::depthwise:
        add_once(all.depthwise, depthwise_problem(layer, merged_branches(layer.branches), in, numerics));
        break;
      case Operation::linear:
        add_linear(all, linear_layer(layer, precisions[i], flow[i], in));
        break;
      case Operation::convolution:
        add_once(all.convolutions, convolution_layer(layer, in));
        break;
      case Operation::squeeze_excite:
        add_linear(all, {in.batch, layer.inputs, layer.hidden, true, Activation::relu, false});
        add_linear(all, {in.batch, layer.hidden, layer.inputs, true, Activation::none, false});
        break;
      default:
        break;
    }
  }
  return all;
}

}  // namespace replk::model
