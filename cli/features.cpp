// replk features IMAGE: what every stage of the network gives, for segmentation, detection and comparisons.
#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <array>
#include <memory>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "cli/commands.hpp"
#include "cli/common.hpp"
#include "cli/network.hpp"
#include "cli/table.hpp"
#include "core/error.hpp"
#include "image/decode.hpp"
#include "model/picture.hpp"
#include "model/precision.hpp"
#include "model/safetensors.hpp"

namespace replk::cli {
namespace {

using Json = nlohmann::ordered_json;

struct Arguments {
  NetworkOptions network;
  std::string image, out;
  bool random = false;
  std::optional<Size> size;
};

ExitCode run(const Arguments& arguments, bool json) {
  if (arguments.random == !arguments.image.empty()) {
    core::fail(core::Status::invalid_argument,
               "features: give either an IMAGE or --random; see replk features --help");
  }
  image::Image picture;
  if (!arguments.random)
    picture = image::read_image(arguments.image);  // before the network, which takes longer
  LoadedNetwork loaded = load_network(arguments.network);
  model::Network& network = loaded.network;
  const Size size = input_size(arguments.size, network.architecture());
  if (arguments.random) picture = random_picture(size, arguments.network.seed.value_or(1));

  std::vector<float> pixels(static_cast<std::size_t>(size.height) * size.width * 3);
  model::prepare_warped(picture, network.architecture().preprocessing, size.height, size.width,
                        pixels.data());
  std::array<model::FeatureShape, 4> shapes;
  std::array<std::vector<float>, 4> features;
  model::Output output;
  for (int stage = 0; stage < 4; ++stage) {
    shapes[stage] = network.feature_shape(stage, size.height, size.width);
    features[stage].resize(static_cast<std::size_t>(shapes[stage].channels) * shapes[stage].height *
                           shapes[stage].width);
    output.features[stage] = features[stage].data();
  }
  network.run({pixels.data(), 1, size.height, size.width}, output);

  std::vector<model::TensorToWrite> tensors;
  Json rows = Json::array();
  Table table({"tensor", "N", "C", "H", "W"});
  for (int stage = 0; stage < 4; ++stage) {
    const model::FeatureShape& shape = shapes[stage];
    const std::string name = fmt::format("stage{}", stage + 1);
    tensors.push_back({name, {1, shape.channels, shape.height, shape.width}, features[stage].data()});
    rows.push_back({{"name", name}, {"shape", {1, shape.channels, shape.height, shape.width}}});
    table.add({name, "1", fmt::to_string(shape.channels), fmt::to_string(shape.height),
               fmt::to_string(shape.width)});
  }
  model::write_safetensors(arguments.out, tensors);

  if (json) {
    print_json({{"model", network.architecture().name},
                {"size", size.to_string()},
                {"weights", loaded.weights.source->describe()},
                {"random_weights", loaded.weights.random},
                {"precision", name(network.precision())},
                {"out", arguments.out},
                {"features", rows}});
  } else {
    fmt::print("{} at {}, weights: {}\n", network.architecture().name, size.to_string(),
               loaded.weights_note());
    table.print();
    fmt::print("written to {}\n", arguments.out);
  }
  return exit_done;
}

}  // namespace

void add_features(CLI::App& program) {
  auto arguments = std::make_shared<Arguments>();
  CLI::App& command = add_command(
      program, "features", "Write the output of each of the four stages, before any norm, as safetensors",
      [arguments](bool json) { return run(*arguments, json); });
  command.add_option("image", arguments->image, "A JPEG or PNG file; it is warped to exactly the input size")
      ->type_name("IMAGE");
  command.add_flag("--random", arguments->random)->description("Use noise from the seed instead of an image");
  add_model_option(command, arguments->network.model);
  add_weights_options(command, arguments->network);
  add_precision_option(command, arguments->network.precision);
  command.add_option("--out", arguments->out, "The file to write: stage1 to stage4, N x C x H x W, fp32")
      ->type_name("FILE.safetensors")
      ->required();
  command.add_flag("--norm", arguments->network.norm_intermediate_features)
      ->description(
          "Apply each stage's norm, which the weights must hold (backbones for other tasks have them)");
  add_size_option(command, arguments->size, "Input size (default: the model's)");
}

}  // namespace replk::cli
