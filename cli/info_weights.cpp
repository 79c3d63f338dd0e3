#include "cli/info_weights.hpp"

#include <fmt/format.h>

#include <filesystem>
#include <map>
#include <nlohmann/json.hpp>

#include "cli/precisions.hpp"
#include "cli/table.hpp"
#include "core/error.hpp"
#include "model/network.hpp"
#include "model/precision.hpp"

namespace replk::cli {

ExitCode show_weights(const std::string& file, const std::string& model, bool json) {
  const auto source = model::open_safetensors(file);
  const std::string name_of_model = model.empty() ? source->metadata("model") : model;
  if (name_of_model.empty())
    core::fail(core::Status::invalid_argument, "{}: does not say which network it is of; give --model NAME",
               file);
  const model::Architecture architecture = model::as_stored(model::find_architecture(name_of_model), *source);
  const std::vector<model::LayerPrecision> layers = model::layer_precisions(architecture, *source);
  const Precision precision = model::network_precision({}, *source);
  const std::string calibration = source->metadata("calibration");
  const auto bytes = static_cast<std::int64_t>(std::filesystem::file_size(file));
  if (json) {
    nlohmann::ordered_json object = {{"weights", file},
                                     {"model", architecture.name},
                                     {"bytes", bytes},
                                     {"classes", architecture.classes},
                                     {"precision", name(precision)},
                                     {"layers", layer_rows(layers)}};
    if (!calibration.empty()) object["calibration"] = calibration;
    print_json(object);
    return exit_done;
  }
  fmt::print("{}: {}, {} classes, {:.1f} MB, runs in {} unless asked otherwise\n", file, architecture.name,
             architecture.classes, static_cast<double>(bytes) / 1e6, name(precision));
  if (!calibration.empty()) fmt::print("ranges from {}\n", calibration);
  Table table({"layer", "inputs", "outputs", "precision"}, "lrrl");
  for (const model::LayerPrecision& layer : layers)
    table.add({layer.layer, fmt::to_string(layer.inputs), fmt::to_string(layer.outputs),
               std::string(name(layer.precision))});
  table.print();
  return exit_done;
}

}  // namespace replk::cli
