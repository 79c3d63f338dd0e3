// replk eval: accuracy on a labelled set of images.
#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <cmath>
#include <memory>
#include <mutex>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "cli/commands.hpp"
#include "cli/common.hpp"
#include "cli/dataset.hpp"
#include "cli/network.hpp"
#include "cli/predictions.hpp"
#include "cli/run_images.hpp"
#include "cli/shape_bias.hpp"
#include "core/clock.hpp"
#include "core/error.hpp"
#include "model/precision.hpp"

namespace replk::cli {
namespace {

struct Arguments {
  NetworkOptions network;
  std::string images, cue_conflicts, out;
  std::optional<Size> size;
  Shard shard;
  int batch = 8;
};

struct Score {
  std::int64_t images = 0, top1 = 0, top5 = 0, failed = 0;

  void add(const Prediction& prediction) {
    ++images;
    top1 += prediction.rank < 1;
    top5 += prediction.rank < 5;
  }
};

// Where the label stands among the logits, best first: 0 is a hit. Of equal logits the lower class goes
// first; a logit that is not a number counts as a miss.
Prediction judge(const float* logits, int classes, int label) {
  Prediction result;
  result.predicted = static_cast<int>(std::max_element(logits, logits + classes) - logits);
  if (std::isnan(logits[label])) {
    result.rank = classes;
    return result;
  }
  for (int c = 0; c < classes; ++c)
    result.rank += logits[c] > logits[label] || (logits[c] == logits[label] && c < label);
  return result;
}

// The images of the shard that are left to do; those that the file, if any, has already are added to the
// score.
std::vector<std::int64_t> left_of_shard(const Dataset& dataset, const Shard& shard,
                                        const PredictionsFile* file, Score& score) {
  std::vector<std::int64_t> left;
  for (std::int64_t i = shard.index; i < dataset.size(); i += shard.count) {
    const auto done = file ? file->done().find(i) : decltype(file->done().end()){};
    if (file && done != file->done().end())
      score.add(done->second);
    else
      left.push_back(i);
  }
  return left;
}

// --shape-bias.
ExitCode run_shape_bias(const Arguments& arguments, bool json) {
  LoadedNetwork loaded = load_network(arguments.network);
  const Size size = input_size(arguments.size, loaded.network.architecture());
  const ShapeBias found = shape_bias(loaded, arguments.cue_conflicts, size, arguments.batch);
  if (json) {
    print_json({{"images", found.images},
                {"shape", found.shape},
                {"texture", found.texture},
                {"shape_bias", found.value()},
                {"agreeing", found.agreeing},
                {"precision", name(loaded.network.precision())},
                {"failed", found.failed}});
  } else {
    fmt::print("{} at {}, weights: {}\n", loaded.network.architecture().name, size.to_string(),
               loaded.weights_note());
    fmt::print("  {} images: {} decided by shape, {} by texture", found.images, found.shape, found.texture);
    if (found.shape + found.texture > 0) fmt::print(": shape bias {:.1f} %", 100 * found.value());
    fmt::print("{}\n", found.failed ? fmt::format("; {} could not be read", found.failed) : "");
    if (found.agreeing > 0) fmt::print("  {} of one class in both were left out\n", found.agreeing);
  }
  return found.failed == 0 ? exit_done : found.images > 0 ? exit_failures : exit_wrong;
}

ExitCode run_accuracy(const Arguments& arguments, bool json) {
  const std::unique_ptr<Dataset> dataset = open_dataset(arguments.images);
  LoadedNetwork loaded = load_network(arguments.network);
  model::Network& network = loaded.network;
  if (dataset->classes() > network.classes()) {
    core::fail(core::Status::invalid_argument, "{}: {} classes; {} has {}", arguments.images,
               dataset->classes(), loaded.weights.source->describe(), network.classes());
  }
  const Size size = input_size(arguments.size, network.architecture());
  std::unique_ptr<PredictionsFile> file;
  if (!arguments.out.empty()) {
    file = std::make_unique<PredictionsFile>(
        arguments.out,
        fmt::format("replk eval --model {} --size {} --weights {} --images {}", network.architecture().name,
                    size.to_string(), loaded.weights.source->describe(), arguments.images),
        *dataset);
  }
  Score score;
  const std::vector<std::int64_t> chosen = left_of_shard(*dataset, arguments.shard, file.get(), score);
  const std::int64_t kept = score.images;
  if (chosen.empty() && kept == 0) {
    core::fail(core::Status::invalid_argument, "{}: no images in shard {} of {}", arguments.images,
               arguments.shard.index + 1, arguments.shard.count);
  }

  if (!chosen.empty())
    network.prepare(std::min<std::int64_t>(arguments.batch, std::ssize(chosen)), size.height, size.width);
  const double start = core::seconds();
  score.failed = run_images(
      network, *dataset, chosen, size, arguments.batch, [&](std::int64_t index, const float* logits) {
        const Prediction prediction = judge(logits, network.classes(), dataset->label(index));
        score.add(prediction);
        if (file) file->add(index, prediction);
      });
  const double seconds = chosen.empty() ? 0 : core::seconds() - start;

  const double images = static_cast<double>(std::max<std::int64_t>(score.images, 1));
  const double top1 = score.top1 / images, top5 = score.top5 / images;
  const double rate = seconds > 0 ? static_cast<double>(score.images - kept) / seconds : 0;
  if (json) {
    print_json({{"images", score.images},
                {"top1", top1},
                {"top5", top5},
                {"images_per_second", rate},
                {"precision", name(network.precision())},
                {"failed", score.failed},
                {"passed_over", dataset->passed_over()}});
  } else {
    fmt::print("{} at {}, weights: {}\n", network.architecture().name, size.to_string(),
               loaded.weights_note());
    fmt::print("  {} images: top-1 {:.2f} %, top-5 {:.2f} %; {:.1f} images a second{}{}\n", score.images,
               100 * top1, 100 * top5, rate,
               kept ? fmt::format("; {} were in {} already", kept, arguments.out) : "",
               score.failed ? fmt::format("; {} could not be read", score.failed) : "");
    if (const std::int64_t others = dataset->passed_over(); others > 0)
      fmt::print("  {} other files were passed over (hidden, or not .jpg, .jpeg or .png)\n", others);
  }
  return score.failed == 0 ? exit_done : score.images > 0 ? exit_failures : exit_wrong;
}

ExitCode run(const Arguments& arguments, bool json) {
  if (!arguments.cue_conflicts.empty()) return run_shape_bias(arguments, json);
  if (arguments.images.empty())
    core::fail(core::Status::invalid_argument, "--images is required, or --shape-bias");
  return run_accuracy(arguments, json);
}

Shard parse_shard(const std::string& text) {
  int index = 0, count = 0, end = 0;
  if (std::sscanf(text.c_str(), "%9d/%9d%n", &index, &count, &end) != 2 || text[end] != '\0' || count < 1 ||
      index < 1 || index > count) {
    core::fail(core::Status::invalid_argument, "--shard: '{}' is not I/N with I in 1..N, such as 1/4", text);
  }
  return {index - 1, count};
}

}  // namespace

void add_eval(CLI::App& program) {
  auto arguments = std::make_shared<Arguments>();
  CLI::App& command = add_command(program, "eval", "Measure top-1 and top-5 accuracy on labelled images",
                                  [arguments](bool json) { return run(*arguments, json); });
  add_model_option(command, arguments->network.model);
  add_weights_options(command, arguments->network);
  add_precision_option(command, arguments->network.precision);
  command
      .add_option(
          "--images", arguments->images,
          "A folder with one folder of images for each class, in sorted order; or an IDX file of images "
          "(...images-idx3-ubyte, .gz or not) with its labels (...labels-idx1-ubyte) beside it")
      ->type_name("DIR|IDX");
  CLI::Option* const shape_bias =
      command
          .add_option("--shape-bias", arguments->cue_conflicts,
                      "Measure shape bias instead: a folder of cue-conflict images, named by shape and "
                      "texture, such as "
                      "cat7-elephant1.png; the share of decisions by shape among those by either")
          ->type_name("DIR")
          ->excludes("--images");
  command
      .add_option_function<std::string>(
          "--shard", [arguments](const std::string& text) { arguments->shard = parse_shard(text); },
          "Every N-th image from the I-th on, I in 1..N, so that N runs share the work")
      ->type_name("I/N")
      ->excludes(shape_bias);
  command
      .add_option("--out", arguments->out,
                  "Keep each prediction in this CSV file; what it has already is not run again")
      ->type_name("FILE.csv")
      ->excludes(shape_bias);
  add_size_option(command, arguments->size, "Input size (default: the model's)");
  command.add_option("--batch", arguments->batch, "Images a run")
      ->type_name("N")
      ->check(CLI::Range(1, 1024))
      ->capture_default_str();
}

}  // namespace replk::cli
