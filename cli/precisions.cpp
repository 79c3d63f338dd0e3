#include "cli/precisions.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <nlohmann/json.hpp>

#include "cli/table.hpp"
#include "model/precision.hpp"

namespace replk::cli {

nlohmann::ordered_json layer_rows(const std::vector<model::LayerPrecision>& layers) {
  nlohmann::ordered_json rows = nlohmann::ordered_json::array();
  for (const model::LayerPrecision& layer : layers) {
    nlohmann::ordered_json row = {{"name", layer.layer},
                                  {"inputs", layer.inputs},
                                  {"outputs", layer.outputs},
                                  {"precision", name(layer.precision)}};
    if (layer.error > 0) row["int8_error"] = layer.error;
    if (!layer.reason.empty()) row["reason"] = layer.reason;
    rows.push_back(std::move(row));
  }
  return rows;
}

void print_layer_precisions(const std::vector<model::LayerPrecision>& layers) {
  Table table({"precision", "layers", "weights", "largest int8 error"}, "lrrr");
  for (const Precision precision : {Precision::fp32, Precision::bf16, Precision::int8}) {
    int count = 0;
    double weights = 0, error = 0;
    for (const model::LayerPrecision& layer : layers) {
      if (layer.precision != precision) continue;
      ++count;
      weights += static_cast<double>(layer.inputs) * layer.outputs;
      error = std::max(error, layer.error);
    }
    if (count > 0)
      table.add({std::string(name(precision)), fmt::to_string(count), fmt::format("{:.2f} M", 1e-6 * weights),
                 error > 0 ? fmt::format("{:.4f}", error) : ""});
  }
  table.print();
  for (const model::LayerPrecision& layer : layers)
    if (!layer.reason.empty())
      fmt::print("  {} is {}: {}\n", layer.layer, name(layer.precision), layer.reason);
}

}  // namespace replk::cli
