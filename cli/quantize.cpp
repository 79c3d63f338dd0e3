// replk quantize: a network's weights in int8, in a file of their own.
#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <array>
#include <filesystem>
#include <memory>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "cli/calibration_images.hpp"
#include "cli/commands.hpp"
#include "cli/common.hpp"
#include "cli/network.hpp"
#include "cli/precisions.hpp"
#include "core/error.hpp"
#include "model/precision.hpp"
#include "model/quantise_network.hpp"

namespace replk::cli {
namespace {

struct Arguments {
  NetworkOptions network;
  std::string out, images;
  std::optional<Size> size;
  int count = 256;
};

ExitCode run(const Arguments& arguments, bool json) {
  model::Architecture architecture = model::find_architecture(arguments.network.model);
  const Weights weights = open_weights(arguments.network, architecture);
  architecture = model::as_stored(architecture, *weights.source);
  model::QuantiseOptions options;
  options.threads = arguments.network.threads;
  if (!arguments.images.empty()) {
    const CalibrationImages images(arguments.images, arguments.count);
    options.seen = calibrate(images, *weights.source, architecture, input_size(arguments.size, architecture),
                             options.threads);
  }
  StatusLine line;
  options.progress = [&](double fraction) {
    line.show(fmt::format("quantising {}: {:.0f} %", architecture.name, 100 * fraction));
    return true;
  };
  model::QuantisedNetwork made = model::quantise_network(architecture, *weights.source, options);
  line.clear();
  made.tensors.write(arguments.out);
  const auto bytes = static_cast<std::int64_t>(std::filesystem::file_size(arguments.out));
  if (json) {
    print_json({{"model", architecture.name},
                {"weights", weights.source->describe()},
                {"random_weights", weights.random},
                {"images", arguments.images.empty() ? 0 : arguments.count},
                {"out", arguments.out},
                {"bytes", bytes},
                {"precision", "int8"},
                {"layers", layer_rows(made.layers)}});
    return exit_done;
  }
  fmt::print("{}, weights: {}\n", architecture.name, weights.note());
  print_layer_precisions(made.layers);
  fmt::print("{:.1f} MB written to {}\n", static_cast<double>(bytes) / 1e6, arguments.out);
  return exit_done;
}

}  // namespace

void add_quantize(CLI::App& program) {
  auto arguments = std::make_shared<Arguments>();
  CLI::App& command = add_command(
      program, "quantize",
      "Write a network's weights in int8 as a .safetensors file that runs by itself. The ranges of what is "
      "quantised come from the batch and layer norms, or from images",
      [arguments](bool json) { return run(*arguments, json); });
  add_model_option(command, arguments->network.model);
  add_weights_options(command, arguments->network);
  command.add_option("--out", arguments->out, "The file to write")->type_name("FILE.safetensors")->required();
  command
      .add_option("--images", arguments->images,
                  "Images to calibrate with: a folder, at any depth, or an IDX file; no labels are used")
      ->type_name("DIR|IDX");
  command.add_option("--count", arguments->count, "How many of the images, evenly spread")
      ->type_name("N")
      ->check(CLI::Range(1, 1'000'000))
      ->capture_default_str();
  add_size_option(command, arguments->size, "Input size for calibration (default: the model's)");
}

}  // namespace replk::cli
