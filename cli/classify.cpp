// replk classify IMAGE...: what the network sees in photographs.
#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <cmath>
#include <memory>
#include <nlohmann/json.hpp>
#include <numeric>
#include <string>
#include <vector>

#include "cli/commands.hpp"
#include "cli/common.hpp"
#include "cli/network.hpp"
#include "core/clock.hpp"
#include "core/error.hpp"
#include "image/decode.hpp"
#include "model/labels.hpp"
#include "model/picture.hpp"
#include "model/precision.hpp"

namespace replk::cli {
namespace {

using Json = nlohmann::ordered_json;

struct Arguments {
  NetworkOptions network;
  std::vector<std::string> images;
  std::optional<Size> size;
  std::string labels;
  int top = 5;
  bool times = false;
};

std::vector<std::string> labels_for(const Arguments& arguments, const LoadedNetwork& loaded) {
  const int classes = loaded.network.classes();
  const std::string metadata = loaded.weights.source->metadata("labels");
  std::vector<std::string> labels;
  if (arguments.labels.empty() && metadata.empty()) {
    for (int i = 0; i < classes; ++i) labels.push_back(fmt::format("class {}", i));
    return labels;
  }
  const std::string source = arguments.labels.empty() ? loaded.weights.source->describe() : arguments.labels;
  labels = arguments.labels.empty() ? model::parse_labels(metadata, source) : model::read_labels(source);
  if (std::ssize(labels) != classes)
    core::fail(core::Status::bad_file, "{}: labels: {} of them; the network has {} classes", source,
               labels.size(), classes);
  return labels;
}

struct Guess {
  int index = 0;
  double probability = 0;
};

// The most probable classes, best first; of equal ones the lower index.
std::vector<Guess> best_guesses(const std::vector<float>& logits, int count) {
  const double largest = *std::max_element(logits.begin(), logits.end());
  double sum = 0;
  for (float logit : logits) sum += std::exp(logit - largest);
  std::vector<int> order(logits.size());
  std::iota(order.begin(), order.end(), 0);
  const auto middle = order.begin() + std::min<std::ptrdiff_t>(count, std::ssize(order));
  std::partial_sort(order.begin(), middle, order.end(),
                    [&](int a, int b) { return logits[a] != logits[b] ? logits[a] > logits[b] : a < b; });
  std::vector<Guess> guesses;
  for (auto at = order.begin(); at != middle; ++at) {
    guesses.push_back({*at, std::exp(logits[*at] - largest) / sum});
  }
  return guesses;
}

class Classifier {
 public:
  Classifier(const Arguments& arguments, LoadedNetwork& loaded)
      : network_(loaded.network),
        size_(input_size(arguments.size, network_.architecture())),
        pixels_(static_cast<std::size_t>(size_.height) * size_.width * 3),
        logits_(network_.classes()) {
    network_.prepare(1, size_.height, size_.width);
  }

  Size size() const { return size_; }
  /// What the network took for the last image, reading it not counted.
  double milliseconds() const { return milliseconds_; }

  std::vector<Guess> classify(const std::string& path, int top) {
    const image::Image picture = image::read_image(path);
    model::prepare_picture(picture, network_.architecture().preprocessing, size_.height, size_.width,
                           pixels_.data());
    const double start = core::seconds();
    network_.run({pixels_.data(), 1, size_.height, size_.width}, {.logits = logits_.data()});
    milliseconds_ = 1e3 * (core::seconds() - start);
    if (!std::all_of(logits_.begin(), logits_.end(), [](float logit) { return std::isfinite(logit); })) {
      core::fail(core::Status::bad_file, "{}: the network's outputs are not finite; check the weights", path);
    }
    return best_guesses(logits_, top);
  }

 private:
  model::Network& network_;
  Size size_;
  std::vector<float> pixels_, logits_;
  double milliseconds_ = 0;
};

ExitCode run(const Arguments& arguments, bool json) {
  LoadedNetwork loaded = load_network(arguments.network);
  if (loaded.network.classes() == 0) {
    core::fail(core::Status::bad_file,
               "{}: has no head (head.weight), so nothing can be classified; see replk features",
               loaded.weights.source->describe());
  }
  const std::vector<std::string> labels = labels_for(arguments, loaded);
  Classifier classifier(arguments, loaded);
  if (!json) {
    fmt::print("{} at {}, weights: {}\n", loaded.network.architecture().name, classifier.size().to_string(),
               loaded.weights_note());
    if (loaded.weights.random) fmt::print("The weights are random numbers: the labels below mean nothing.\n");
  }

  Json rows = Json::array();
  std::size_t failed = 0;
  for (const std::string& path : arguments.images) {
    try {
      const std::vector<Guess> guesses = classifier.classify(path, arguments.top);
      Json top = Json::array();
      const std::string time = arguments.times ? fmt::format("  ({:.2f} ms)", classifier.milliseconds()) : "";
      if (!json) fmt::print("\n{}{}\n", path, time);
      for (const Guess& guess : guesses) {
        const std::string& label = labels[guess.index];
        top.push_back({{"class", guess.index}, {"label", label}, {"probability", guess.probability}});
        if (!json) fmt::print("  {:6.2f} %  {}\n", 100 * guess.probability, label);
      }
      rows.push_back({{"image", path}, {"top", top}});
      if (arguments.times) rows.back()["ms"] = classifier.milliseconds();
    } catch (const core::Error& error) {
      report_failure(error.what());
      rows.push_back({{"image", path}, {"error", error.what()}});
      ++failed;
    }
  }
  if (json) {
    print_json({{"model", loaded.network.architecture().name},
                {"size", classifier.size().to_string()},
                {"weights", loaded.weights.source->describe()},
                {"random_weights", loaded.weights.random},
                {"precision", name(loaded.network.precision())},
                {"images", rows}});
  }
  return failed == 0 ? exit_done : failed < arguments.images.size() ? exit_failures : exit_wrong;
}

}  // namespace

void add_classify(CLI::App& program) {
  auto arguments = std::make_shared<Arguments>();
  CLI::App& command = add_command(program, "classify", "Name what images (JPEG or PNG) show",
                                  [arguments](bool json) { return run(*arguments, json); });
  command.add_option("image", arguments->images, "JPEG or PNG files")->type_name("IMAGE")->required();
  add_model_option(command, arguments->network.model);
  add_weights_options(command, arguments->network);
  add_precision_option(command, arguments->network.precision);
  add_size_option(
      command, arguments->size,
      "Input size (default: the model's); squares below 384 are cropped from the middle as the models' own "
      "evaluation does, other sizes are warped");
  command.add_option("--top", arguments->top, "Classes to show")
      ->type_name("N")
      ->check(CLI::Range(1, 1'000'000))
      ->capture_default_str();
  command.add_flag("--times", arguments->times, "Show how long the network took for each image");
  command
      .add_option("--labels", arguments->labels,
                  "Names of the classes, one a line or a JSON array (default: the weights' own, or numbers)")
      ->type_name("FILE");
}

}  // namespace replk::cli
