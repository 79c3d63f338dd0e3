// Which layers a network's precision is about.
#pragma once
#include <optional>
#include <string_view>
#include <vector>

#include "core/types.hpp"
#include "model/graph.hpp"

namespace replk::model {

/// fp32, bf16, bf16x3 or int8; nothing for any other text.
std::optional<Precision> parse_precision(std::string_view text);

/// For each of a graph's layers, whether it multiplies in the network's precision: linear layers over pixels.
/// A head, behind the mean over pixels, does not, nor what the graph keeps wide; nor do convolutions, depthwise layers and squeeze-excite.
std::vector<bool> narrow_layers(const Graph& graph);

/// What a network computes in: asked, or else as the source is. Throws invalid_argument where int8 weights
/// are asked for in another precision, and unsupported where this machine lacks it.
Precision network_precision(std::optional<Precision> asked, const WeightSource& source);

}  // namespace replk::model
