#include "model/bands.hpp"

#include <algorithm>
#include <optional>

namespace replk::model {
namespace {

/// How rows of a layer's result come of rows of its input.
struct RowWindow {
  int extent = 1, stride = 1, padding = 0;
};

/// Of layers that may be in a chain; a large kernel would compute most rows twice.
std::optional<RowWindow> row_window(const Layer& layer) {
  if (layer.is<Linear>()) return RowWindow{};
  if (const auto* convolution = layer.as<Convolution>())
    return RowWindow{convolution->kernel_h(), convolution->stride, convolution->padding};
  const auto* depthwise = layer.as<Depthwise>();
  if (!depthwise || depthwise->kind() != LayerKind::small_depthwise) return std::nullopt;
  const int extent = depthwise->branches[0].extent_h();
  return RowWindow{extent, depthwise->stride, extent / 2};
}

/// What lies in tiles is no rows of a map, of which a band could begin anywhere.
bool in_rows(const LayerFlow& flow) {
  return !in_tiles(flow.src) && !in_tiles(flow.copy);
}

bool read_once(const Graph& graph, int value) {
  int reads = value == graph.logits;
  for (const Stage& stage : graph.stages) reads += stage.value == value;
  for (const Layer& layer : graph.layers) reads += (layer.src == value) + (layer.residual == value);
  return reads == 1;
}

/// Whether a layer and the next one may stand in a chain, the map between them being no one else's.
bool linked(const Graph& graph, const std::vector<LayerFlow>& flow, std::size_t i) {
  const Layer &layer = graph.layers[i], &next = graph.layers[i + 1];
  return row_window(next) && in_rows(flow[i + 1]) && next.src == layer.dst && read_once(graph, layer.dst) &&
         layer.residual < 0 && flow[i].copy == Element::f32;
}

std::size_t map_bytes(const MapSize& size, int rows, int channels) {
  return std::size_t(rows) * std::size_t(size.width) * std::size_t(channels) * sizeof(float);
}

/// The largest of what a layer reads and writes between the chain's ends in its first whole band.
std::size_t band_bytes(const Graph& graph, const std::vector<MapSize>& sizes, const Chain& chain) {
  const std::vector<BandRows> rows = rows_of_band(graph, sizes, chain, std::min(1, chain.bands - 1));
  std::size_t most = 0, before = 0;
  for (std::size_t i = chain.first; i + 1 < chain.end; i++) {
    const Layer& layer = graph.layers[i];
    const std::size_t bytes = map_bytes(sizes[layer.dst], rows[i + 1 - chain.first].count(), layer.outputs);
    most = std::max(most, before + bytes);
    before = bytes;
  }
  return most;
}

/// With the fewest bands whose maps fit; rows 0 where there are none.
Chain cut(const Graph& graph, const std::vector<MapSize>& sizes, std::size_t first, std::size_t end,
          std::size_t l2_bytes) {
  // One row at a time would compute most rows of the layers before twice.
  constexpr int least_rows = 2;
  const int height = sizes[graph.layers[end - 1].dst].height;
  for (int bands = 2; bands * least_rows <= height; bands++) {
    const int rows = (height + bands - 1) / bands;
    const Chain chain{first, end, rows, (height + rows - 1) / rows};
    // As much again passes through: the chain's input and result, and weights.
    if (band_bytes(graph, sizes, chain) <= l2_bytes / 5 * 3) return chain;
  }
  return {};
}

/// A convolution has the same padding on both sides.
bool expressible(const Graph& graph, const std::vector<MapSize>& sizes, const Chain& chain) {
  for (int band = 0; band < chain.bands; band++) {
    const std::vector<BandRows> rows = rows_of_band(graph, sizes, chain, band);
    for (std::size_t i = chain.first; i < chain.end; i++) {
      const BandRows &in = rows[i - chain.first], &out = rows[i + 1 - chain.first];
      const auto* convolution = graph.layers[i].as<Convolution>();
      if (convolution &&
          (in.count() + 2 * in.padding.before - convolution->kernel_h()) / convolution->stride + 1 !=
              out.count())
        return false;
      if (convolution && in.padding.after > in.padding.before) return false;
    }
  }
  return true;
}

}  // namespace

std::vector<BandRows> rows_of_band(const Graph& graph, const std::vector<MapSize>& sizes, const Chain& chain,
                                   int band) {
  std::vector<BandRows> rows(chain.end - chain.first + 1);
  const int height = sizes[graph.layers[chain.end - 1].dst].height;
  rows.back() = {band * chain.rows, std::min(height, (band + 1) * chain.rows), {}};
  for (std::size_t i = chain.end; i-- > chain.first;) {
    const BandRows& out = rows[i + 1 - chain.first];
    const RowWindow window = *row_window(graph.layers[i]);
    const int begin = out.begin * window.stride - window.padding,
              end = (out.end - 1) * window.stride - window.padding + window.extent,
              rows_of_map = sizes[graph.layers[i].src].height;
    rows[i - chain.first] = {std::max(0, begin),
                             std::min(rows_of_map, end),
                             {std::max(0, -begin), std::max(0, end - rows_of_map)}};
  }
  return rows;
}

bool same_shape(const std::vector<BandRows>& a, const std::vector<BandRows>& b) {
  return std::equal(a.begin(), a.end(), b.begin(), b.end(), [](const BandRows& x, const BandRows& y) {
    return x.count() == y.count() && x.padding == y.padding;
  });
}

std::vector<Chain> find_chains(const Graph& graph, const std::vector<LayerFlow>& flow,
                               const std::vector<MapSize>& sizes, std::size_t l2_bytes) {
  std::vector<Chain> chains;
  const std::size_t layers = graph.layers.size();
  for (std::size_t first = 0; first < layers; first++) {
    if (!row_window(graph.layers[first]) || !in_rows(flow[first])) continue;
    // As far as the maps between layers are larger than the cache.
    std::size_t end = first + 1;
    while (end < layers && linked(graph, flow, end - 1)) {
      const Layer& last = graph.layers[end - 1];
      if (map_bytes(sizes[last.dst], sizes[last.dst].height, last.outputs) <= l2_bytes) break;
      end++;
    }
    if (end < first + 2 || graph.layers[end - 1].residual >= 0) continue;
    const Chain chain = cut(graph, sizes, first, end, l2_bytes);
    if (chain.rows == 0 || !expressible(graph, sizes, chain)) continue;
    chains.push_back(chain);
    first = end - 1;
  }
  return chains;
}

}  // namespace replk::model
