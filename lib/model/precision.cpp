#include "model/precision.hpp"

#include "core/error.hpp"
#include "dense/dense.hpp"
#include "model/stored_layer.hpp"

namespace replk::model {

std::optional<Precision> parse_precision(std::string_view text) {
  for (const Precision one : {Precision::fp32, Precision::bf16, Precision::bf16x3, Precision::int8})
    if (text == name(one)) return one;
  return std::nullopt;
}

std::vector<bool> narrow_layers(const Graph& graph) {
  std::vector<bool> narrow;
  bool pooled = false;
  for (const Layer& layer : graph.layers) {
    pooled = pooled || layer.is<Mean>();
    const Linear* linear = layer.as<Linear>();
    narrow.push_back(linear && !linear->wide && !pooled);
  }
  return narrow;
}

Precision network_precision(std::optional<Precision> asked, const WeightSource& source) {
  if (asked) dense::candidates({.inputs = 64, .outputs = 64, .precision = *asked}, 1);  // throws if none
  if (!holds_int8(source)) return asked.value_or(Precision::fp32);
  if (asked && *asked != Precision::int8)
    core::fail(core::Status::invalid_argument,
               "precision is {}; {} holds int8 weights: allowed is int8, or none asked", name(*asked),
               source.describe());
  return Precision::int8;
}

}  // namespace replk::model
