#include "model/parameters.hpp"

namespace replk::model {

Parameters load_parameters(const Layer& layer, Precision precision, TensorReader& reader, int threads) {
  Parameters parameters;
  parameters.precision = precision;
  std::visit([&](const auto& operation) { operation.load(layer, parameters, reader, threads); },
             layer.operation);
  return parameters;
}

Parameters load_stored_parameters(const Layer& layer, TensorReader& reader) {
  Parameters parameters;
  std::visit([&](const auto& operation) { operation.load_stored(layer, parameters, reader); },
             layer.operation);
  return parameters;
}

}  // namespace replk::model
