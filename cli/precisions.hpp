// Layers and the precision that each multiplies in, as a table and as JSON.
#pragma once
#include <nlohmann/json_fwd.hpp>
#include <vector>

#include "model/quantise_network.hpp"

namespace replk::cli {

nlohmann::ordered_json layer_rows(const std::vector<model::LayerPrecision>& layers);
/// How many layers and weights each precision has, and why a layer is not int8.
void print_layer_precisions(const std::vector<model::LayerPrecision>& layers);

}  // namespace replk::cli
