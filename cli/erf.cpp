// replk erf: how much of the input the centre of the last map sees, as erf/visualize_erf.py and
// erf/analyze_erf.py of the RepLKNet repository measure it.
#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <cmath>
#include <filesystem>
#include <functional>
#include <memory>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "cli/commands.hpp"
#include "cli/common.hpp"
#include "cli/dataset.hpp"
#include "cli/heat_map.hpp"
#include "cli/image_files.hpp"
#include "cli/network.hpp"
#include "cli/table.hpp"
#include "core/error.hpp"
#include "image/decode.hpp"
#include "image/encode.hpp"
#include "model/gradient.hpp"
#include "model/picture.hpp"

namespace replk::cli {
namespace {

using Json = nlohmann::ordered_json;

struct Arguments {
  NetworkOptions network;
  std::string images, out;
  bool random = false;
  int count = 50;
  std::optional<Size> size;
};

struct Picture {
  std::string name;
  std::function<image::Image()> read;
};

struct Pictures {
  std::vector<Picture> list;
  std::int64_t passed_over = 0;  // files among them that are none
};

/// What there is to read, at most arguments.count.
Pictures list_pictures(const Arguments& arguments, Size size) {
  Pictures found;
  std::vector<Picture>& pictures = found.list;
  const auto wanted = static_cast<std::size_t>(arguments.count);
  if (arguments.random) {
    for (std::size_t i = 0; i < wanted; ++i)
      pictures.push_back({fmt::format("noise {}", i + 1), [=, seed = arguments.network.seed.value_or(1) + i] {
                            return random_picture(size, seed);
                          }});
  } else if (std::filesystem::is_directory(arguments.images)) {
    const ImageFiles files = image_files(arguments.images);
    found.passed_over = files.passed_over;
    for (const std::string& path : files.paths)
      pictures.push_back({path, [path] { return image::read_image(path); }});
    if (pictures.empty())
      core::fail(core::Status::bad_file, "{}: no .jpg, .jpeg or .png files in it or below", arguments.images);
  } else {
    const std::shared_ptr<Dataset> images = open_dataset(arguments.images);
    for (std::int64_t i = 0; i < std::min<std::int64_t>(images->size(), arguments.count); ++i)
      pictures.push_back({fmt::format("{}: image {}", arguments.images, images->name(i)),
                          [images, i] { return images->read(i); }});
  }
  pictures.resize(std::min(pictures.size(), wanted));
  return found;
}

/// Of every pixel of the input, the mean over images of its positive gradients, its three colours summed.
struct Contributions {
  explicit Contributions(Size size) : sums(static_cast<std::size_t>(size.height) * size.width) {}

  void add(const std::vector<float>& gradient) {
    for (std::size_t i = 0; i < sums.size(); ++i)
      for (int c = 0; c < 3; ++c) sums[i] += std::max(gradient[3 * i + c], 0.0f);
    ++images;
  }
  /// log10(mean + 1), over the largest. Throws where all are 0.
  std::vector<double> scores() const {
    std::vector<double> scores;
    for (double sum : sums) scores.push_back(std::log1p(sum / images));  // the base cancels
    const double largest = *std::max_element(scores.begin(), scores.end());
    if (!(largest > 0))
      core::fail(core::Status::bad_file, "the centre of the last map depends on no pixel; check the weights");
    for (double& score : scores) score /= largest;
    return scores;
  }

  std::vector<double> sums;
  int images = 0;
};

/// The smallest square around the central pixel that holds more than `share` of the sum.
struct Area {
  double share = 0;
  int side = 1;
  double ratio = 0;  // of the input's area
};

std::vector<Area> high_contribution_areas(const std::vector<double>& scores, Size size) {
  std::vector<double> rings(std::max(size.height, size.width) / 2 + 1);  // by their distance from the centre
  std::vector<std::int64_t> pixels(rings.size());
  for (int y = 0; y < size.height; ++y)
    for (int x = 0; x < size.width; ++x) {
      const int ring = std::max(std::abs(y - size.height / 2), std::abs(x - size.width / 2));
      rings[ring] += scores[static_cast<std::size_t>(y) * size.width + x];
      ++pixels[ring];
    }
  double total = 0;
  for (double ring : rings) total += ring;
  std::vector<Area> areas;
  for (double share : {0.2, 0.3, 0.5, 0.99}) {
    double sum = rings[0];
    std::int64_t count = pixels[0];
    int ring = 0;
    do {  // at least 3 x 3, as the original has it
      ++ring;
      sum += rings[ring];
      count += pixels[ring];
    } while (sum <= share * total && ring + 1 < static_cast<int>(rings.size()));
    areas.push_back(
        {share, 2 * ring + 1, static_cast<double>(count) / (static_cast<double>(size.height) * size.width)});
  }
  return areas;
}

std::string memory_text(std::size_t bytes) {
  const auto megabytes = static_cast<double>(bytes) / 1e6;
  return megabytes < 1000 ? fmt::format("{:.0f} MB", megabytes) : fmt::format("{:.2f} GB", megabytes / 1000);
}

/// Adds the gradients of the pictures to the contributions; says which cannot be used, and returns how many.
std::size_t add_pictures(const std::vector<Picture>& pictures, const model::Network& network,
                         model::Gradient& gradient, Size size, Progress& progress,
                         Contributions& contributions) {
  std::vector<float> input(static_cast<std::size_t>(size.height) * size.width * 3), slopes(input.size());
  std::size_t failed = 0;
  progress.advance(0);
  for (const Picture& picture : pictures) {
    try {
      model::prepare_warped(picture.read(), network.architecture().preprocessing, size.height, size.width,
                            input.data());
      gradient.of_centre(input.data(), slopes.data());
      if (!std::all_of(slopes.begin(), slopes.end(), [](float slope) { return std::isfinite(slope); }))
        core::fail(core::Status::bad_file, "{}: its gradient is not finite; check the weights", picture.name);
      contributions.add(slopes);
    } catch (const core::Error& error) {
      progress.clear();
      report_failure(error.what());
      ++failed;
    }
    progress.advance();
  }
  progress.clear();
  return failed;
}

ExitCode run(const Arguments& arguments, bool json) {
  if (arguments.random == !arguments.images.empty())
    core::fail(core::Status::invalid_argument,
               "erf: give either --images DIR or --random; see replk erf --help");
  const Size size = input_size(arguments.size, model::find_architecture(arguments.network.model));
  const auto [pictures, passed_over] = list_pictures(arguments, size);
  const LoadedNetwork loaded = load_network(arguments.network);
  const model::Network& network = loaded.network;
  model::Gradient gradient(network, size.height, size.width);
  const std::string memory =
      fmt::format("{} for activations and gradients, {} for weights", memory_text(gradient.bytes()),
                  memory_text(2 * network.weight_bytes()));

  Contributions contributions(size);
  Progress progress(std::ssize(pictures), fmt::format("images ({})", memory));
  const std::size_t failed = add_pictures(pictures, network, gradient, size, progress, contributions);
  if (contributions.images == 0)
    core::fail(core::Status::bad_file, "erf: none of {} images could be used", pictures.size());

  const std::vector<double> scores = contributions.scores();
  const std::vector<Area> areas = high_contribution_areas(scores, size);
  std::vector<Frame> frames;
  Json rows = Json::array();
  Table table({"contribution", "side of the square", "of the area"});
  for (const Area& area : areas) {
    const std::string share = fmt::format("{:.0f}%", 100 * area.share);
    if (area.share >= 0.5) frames.push_back({area.side, share});
    rows.push_back({{"t", area.share}, {"side", area.side}, {"ratio", area.ratio}});
    table.add({share, fmt::to_string(area.side), fmt::format("{:.1f} %", 100 * area.ratio)});
  }
  image::write_png(arguments.out, draw_heat_map(scores, size, frames));

  if (json) {
    print_json({{"model", network.architecture().name},
                {"size", size.to_string()},
                {"weights", loaded.weights.source->describe()},
                {"random_weights", loaded.weights.random},
                {"images", contributions.images},
                {"failed", failed},
                {"passed_over", passed_over},
                {"memory_bytes", gradient.bytes()},
                {"areas", rows},
                {"out", arguments.out}});
  } else {
    fmt::print("{} at {}, weights: {}\n", network.architecture().name, size.to_string(),
               loaded.weights_note());
    fmt::print("  {} images{}{}; memory: {}\n\n", contributions.images,
               failed ? fmt::format(", {} could not be used", failed) : "",
               passed_over ? fmt::format(", {} other files passed over", passed_over) : "", memory);
    table.print();
    fmt::print("\nwritten to {}\n", arguments.out);
  }
  return failed == 0 ? exit_done : exit_failures;
}

}  // namespace

void add_erf(CLI::App& program) {
  auto arguments = std::make_shared<Arguments>();
  CLI::App& command = add_command(program, "erf", "Measure and draw the effective receptive field",
                                  [arguments](bool json) { return run(*arguments, json); });
  add_model_option(command, arguments->network.model);
  add_weights_options(command, arguments->network);
  command
      .add_option("--images", arguments->images,
                  "A folder of JPEG or PNG files, at any depth, or an IDX file of images")
      ->type_name("DIR|IDX");
  command.add_flag("--random", arguments->random)->description("Use noise from the seed instead of images");
  command.add_option("--count", arguments->count, "Images to use, the first ones in sorted order")
      ->type_name("N")
      ->check(CLI::Range(1, 1'000'000))
      ->capture_default_str();
  command.add_option("--out", arguments->out, "The picture to write")->type_name("FILE.png")->required();
  add_size_option(
      command, arguments->size,
      "Input size (default: the model's); images are warped to it. The paper's figures are at 1024");
}

}  // namespace replk::cli
