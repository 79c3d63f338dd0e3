// Layers whose maps are larger than the L2 and are read by the next layer alone: run one behind the other
// over bands of rows, so that what is between them stays in the cache. A stem is such a chain.
#pragma once
#include <cstddef>
#include <cstdint>
#include <vector>

#include "model/flow.hpp"
#include "model/graph.hpp"

namespace replk::model {

/// Layers [first, end) of a graph, in bands of `rows` rows of the last one's result (of the last band, less).
struct Chain {
  std::size_t first = 0, end = 0;
  int rows = 0, bands = 0;
};

/// What a layer works on in one band: rows [begin, end) of its input, and what is padding above and below.
struct BandRows {
  int begin = 0, end = 0;
  RowPadding padding;
  int count() const { return end - begin; }
};

/// In the order of layers. l2_bytes: what the maps within a band share with weights.
std::vector<Chain> find_chains(const Graph& graph, const std::vector<LayerFlow>& flow,
                               const std::vector<MapSize>& sizes, std::size_t l2_bytes);

/// Of each layer of the chain in a band, and behind them those of the result. Rows that two bands need are
/// computed by both.
std::vector<BandRows> rows_of_band(const Graph& graph, const std::vector<MapSize>& sizes, const Chain& chain,
                                   int band);

/// Bands that differ in more than where they begin: numbers of those from which on another begins.
bool same_shape(const std::vector<BandRows>& a, const std::vector<BandRows>& b);

}  // namespace replk::model
