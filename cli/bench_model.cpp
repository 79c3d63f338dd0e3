// replk bench model NAME: how long a network takes, and where the time goes.
#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <array>
#include <fstream>
#include <functional>
#include <map>
#include <memory>
#include <nlohmann/json.hpp>
#include <random>
#include <string>
#include <vector>

#include "cli/commands.hpp"
#include "cli/common.hpp"
#include "cli/network.hpp"
#include "cli/table.hpp"
#include "cli/tunable.hpp"
#include "core/clock.hpp"
#include "depthwise/problem/problem.hpp"
#include "measure/depthwise.hpp"
#include "measure/peak.hpp"
#include "model/precision.hpp"
#include "tuner/tuner.hpp"

namespace replk::cli {
namespace {

using Json = nlohmann::ordered_json;
using model::LayerKind;
using model::Profile;

struct Arguments {
  NetworkOptions network;
  std::optional<Size> size;
  int batch = 1;
  int rounds = 15;
  bool profile = false;
  bool layers = false;
  bool peers = false;
  bool features = false;
};

struct Measurement {
  std::vector<double> seconds;      // of plain runs
  std::vector<Profile> profiles;    // of runs between them
  double peak_gflops = 0;           // fp32 multiply-adds of all threads, before and after
  double product_peak_gflops = 0;   // the same of the network's precision
  double first_result_seconds = 0;  // since the program began to load
  std::int64_t peak_memory = 0;     // bytes that the process has had resident, up to the first result
};

/// VmHWM; 0 where the system does not tell.
std::int64_t peak_memory_bytes() {
  std::ifstream status("/proc/self/status");
  for (std::string line; std::getline(status, line);)
    if (line.starts_with("VmHWM:")) return 1024 * std::stoll(line.substr(6));
  return 0;
}

double median_of(const std::vector<Profile>& profiles, const std::function<double(const Profile&)>& value) {
  std::vector<double> values;
  for (const Profile& profile : profiles) values.push_back(value(profile));
  return core::median(values);
}

/// Room for the maps of the stages from `first` on, and where each begins.
struct FeatureMaps {
  std::array<std::vector<float>, 4> maps;
  std::array<float*, 4> begin{};

  FeatureMaps(const model::Network& network, int first, int batch, Size size) {
    for (int stage = first; stage < 4; ++stage) {
      const model::FeatureShape shape = network.feature_shape(stage, size.height, size.width);
      maps[stage].resize(static_cast<std::size_t>(batch) * shape.channels * shape.height * shape.width);
      begin[stage] = maps[stage].data();
    }
  }
};

// Before the weights are loaded: what a race needs beside them is given back by then, so that the peak of
// memory is that of the network.
void tune(const Arguments& arguments, Size size, const model::Architecture& architecture) {
  const TuneFirst tune_first;
  if (tuner::settings().mode != tuner::Mode::now) return;
  // A wrong file is an error at once, and so is a precision that cannot be had.
  const Precision precision = model::network_precision(arguments.network.precision,
                                                       *open_weights(arguments.network, architecture).source);
  const model::NetworkWorkload workload = model::workload(
      architecture, {arguments.batch, size.height, size.width}, architecture.classes, precision);
  for (const tuner::Question& question : questions_of(workload, arguments.network.threads))
    tuner::choose(question);
}

Measurement measure(model::Network& network, const Arguments& arguments, Size size, double start) {
  std::vector<float> pixels(static_cast<std::size_t>(arguments.batch) * size.height * size.width * 3);
  std::mt19937 generator(1);
  for (float& value : pixels) value = static_cast<float>(generator()) / 2147483648.0f - 1;
  std::vector<float> logits(static_cast<std::size_t>(arguments.batch) * network.classes());
  const model::Input input{pixels.data(), arguments.batch, size.height, size.width};
  // In a backbone the last stage takes the place of the head.
  const int first_stage = arguments.features ? 0 : network.classes() == 0 ? 3 : 4;
  const FeatureMaps features(network, first_stage, arguments.batch, size);
  const model::Output output{.logits = first_stage == 4 ? logits.data() : nullptr,
                             .features = features.begin};

  Measurement result;
  Progress progress(arguments.rounds, "rounds");
  network.prepare(arguments.batch, size.height, size.width);
  network.run(input, output);
  result.first_result_seconds = core::seconds() - start;
  result.peak_memory = peak_memory_bytes();
  const auto measure_peaks = [&] {
    result.peak_gflops += bench::peak_gflops(Precision::fp32, network.threads()) / 2;
    result.product_peak_gflops += bench::peak_gflops(network.precision(), network.threads()) / 2;
  };
  measure_peaks();
  for (int round = 0; round < arguments.rounds; ++round) {
    const double begin = core::seconds();
    network.run(input, output);
    result.seconds.push_back(core::seconds() - begin);
    if (round % 3 == 0) network.run(input, output, {.profile = &result.profiles.emplace_back()});
    progress.advance();
  }
  measure_peaks();
  return result;
}

Json profile_rows(const Measurement& measurement) {
  Json rows = Json::array();
  for (int k = 0; k < model::layer_kinds; ++k) {
    const auto kind = static_cast<LayerKind>(k);
    const Profile& first = measurement.profiles.front();
    const auto layers = std::count_if(first.layers.begin(), first.layers.end(),
                                      [&](const auto& layer) { return layer.kind == kind; });
    if (layers == 0) continue;
    const double seconds = median_of(measurement.profiles, [&](const Profile& p) { return p.seconds(kind); });
    const double share =
        median_of(measurement.profiles, [&](const Profile& p) { return p.seconds(kind) / p.seconds(); });
    const double gflops = 2e-9 * first.macs(kind) / seconds;
    // Pointwise layers compute in the network's precision, everything else in fp32.
    const double peak =
        kind == LayerKind::pointwise ? measurement.product_peak_gflops : measurement.peak_gflops;
    rows.push_back({{"kind", name(kind)},
                    {"layers", layers},
                    {"ms", 1e3 * seconds},
                    {"share", share},
                    {"gmac", 1e-9 * first.macs(kind)},
                    {"gflops", gflops},
                    {"share_of_peak", gflops / peak}});
  }
  return rows;
}

void print_profile(const Json& rows) {
  Table table({"kind of layer", "layers", "ms", "share", "GMAC", "GFLOP/s", "of peak"});
  bool above_peak = false;
  for (const Json& row : rows) {
    above_peak = above_peak || row["share_of_peak"] > 1;
    table.add({row["kind"], fmt::to_string(row["layers"].get<int>()),
               fmt::format("{:.2f}", row["ms"].get<double>()),
               fmt::format("{:.1f} %", 100 * row["share"].get<double>()),
               fmt::format("{:.3f}", row["gmac"].get<double>()),
               fmt::format("{:.1f}", row["gflops"].get<double>()),
               fmt::format("{:.0f} %", 100 * row["share_of_peak"].get<double>())});
  }
  fmt::print("\n");
  table.print();
  if (above_peak)
    fmt::print("  GMAC are those of the definition; above 100 %, because transforms need fewer.\n");
}

Json layer_rows(const Measurement& measurement) {
  Json rows = Json::array();
  const Profile& first = measurement.profiles.front();
  for (std::size_t i = 0; i < first.layers.size(); ++i) {
    const model::LayerProfile& layer = first.layers[i];
    const double seconds =
        median_of(measurement.profiles, [&](const Profile& p) { return p.layers[i].seconds; });
    rows.push_back({{"name", layer.name},
                    {"kind", name(layer.kind)},
                    {"shape", layer.shape},
                    {"choice", layer.choice},
                    {"ms", 1e3 * seconds},
                    {"gmac", 1e-9 * layer.macs}});
  }
  return rows;
}

void print_layers(const Json& rows) {
  Table table({"layer", "ms", "GMAC", "computes", "by"}, "lrrll");
  for (const Json& row : rows) {
    table.add({row["name"], fmt::format("{:.3f}", row["ms"].get<double>()),
               fmt::format("{:.4f}", row["gmac"].get<double>()), row["shape"], row["choice"]});
  }
  fmt::print("\n");
  table.print();
}

// The large depthwise layers, equal ones together: ours in the network, and alone, warm and cold, beside
// oneDNN's best, warm and cold.
Json peer_rows(const Measurement& measurement, int threads) {
  constexpr int cold_rounds = 5;
  std::vector<std::string> shapes;  // in the order of the network
  std::map<std::string, int> layers;
  const auto sum_of = [](const std::string& shape) {
    return [shape](const Profile& profile) {
      double seconds = 0;
      for (const model::LayerProfile& layer : profile.layers) {
        if (layer.kind == LayerKind::large_depthwise && layer.shape == shape) seconds += layer.seconds;
      }
      return seconds;
    };
  };
  for (const model::LayerProfile& layer : measurement.profiles.front().layers) {
    if (layer.kind == LayerKind::large_depthwise && layers[layer.shape]++ == 0) shapes.push_back(layer.shape);
  }
  Json rows = Json::array();
  Progress progress(std::ssize(shapes), "shapes timed in oneDNN");
  for (const std::string& shape : shapes) {
    bench::DepthwiseOptions options;
    options.threads = threads;
    options.cold_rounds = cold_rounds;
    const bench::DepthwiseRow row = bench::measure_depthwise(depthwise::parse(shape), options);
    const int count = layers[shape];
    const double seconds = median_of(measurement.profiles, sum_of(shape));
    const auto times = [&](const std::optional<double>& ms) { return ms ? Json(*ms * count) : Json(); };
    rows.push_back(
        {{"shape", shape},
         {"layers", count},
         {"tiling", row.tiling},
         {"ms", 1e3 * seconds},
         {"warm_ms", row.ms * count},
         {"cold_ms", *row.ms_cold * count},
         {"onednn_ms", times(row.best_peer_ms)},
         {"onednn_cold_ms", times(row.best_peer_ms_cold)},
         {"ratio", row.best_peer_ms ? Json(*row.best_peer_ms * count / (1e3 * seconds)) : Json()}});
    progress.advance();
  }
  return rows;
}

std::string or_dash(const Json& value, const char* format) {
  return value.is_null() ? "-" : fmt::format(fmt::runtime(format), value.get<double>());
}

void print_peers(const Json& rows, double network_ms) {
  constexpr std::array columns{"ms", "warm_ms", "cold_ms", "onednn_ms", "onednn_cold_ms"};
  Table table({"ms of all these layers", "layers", "in the network", "warm", "cold", "oneDNN warm", "cold",
               "network / warm", "faster"});
  Json sums = {{"layers", 0}};
  const auto add = [&](const std::string& what, const Json& row) {
    std::vector<std::string> cells{what, fmt::to_string(row["layers"].get<int>())};
    for (const char* column : columns) cells.push_back(or_dash(row[column], "{:.2f}"));
    cells.push_back(fmt::format("{:.2f}", row["ms"].get<double>() / row["warm_ms"].get<double>()));
    cells.push_back(row["onednn_ms"].is_null()
                        ? "-"
                        : fmt::format("{:.1f}x", row["onednn_ms"].get<double>() / row["ms"].get<double>()));
    table.add(cells);
  };
  for (const char* column : columns) sums[column] = 0.0;
  for (const Json& row : rows) {
    add(row["shape"], row);
    sums["layers"] = sums["layers"].get<int>() + row["layers"].get<int>();
    for (const char* column : columns)  // a sum needs all: oneDNN may have reference code alone for a shape
      sums[column] = row[column].is_null() || sums[column].is_null()
                         ? Json()
                         : Json(sums[column].get<double>() + row[column].get<double>());
  }
  table.add_rule();
  add("all large depthwise layers", sums);
  fmt::print("\n");
  table.print();
  if (sums["onednn_ms"].is_null()) return;
  const double with_peers = network_ms - sums["ms"].get<double>() + sums["onednn_ms"].get<double>();
  fmt::print("  the whole network: {:.2f} ms, with oneDNN's warm times {:.2f} ({:.2f}x)\n", network_ms,
             with_peers, with_peers / network_ms);
}

ExitCode run(const Arguments& arguments, bool json) {
  tuner::tune_unless_set();
  const model::Architecture architecture = model::find_architecture(arguments.network.model);
  const Size size = input_size(arguments.size, architecture);
  tune(arguments, size, architecture);
  const double start = core::seconds();
  LoadedNetwork loaded = load_network(arguments.network);
  model::Network& network = loaded.network;
  const Measurement measurement = measure(network, arguments, size, start);

  const double seconds = core::median(measurement.seconds);
  const double depthwise_seconds =
      median_of(measurement.profiles, [](const Profile& p) { return p.seconds(LayerKind::large_depthwise); });
  const Profile& profile = measurement.profiles.front();
  double macs = 0;
  for (int k = 0; k < model::layer_kinds; ++k) macs += profile.macs(static_cast<LayerKind>(k));
  const double other_macs = macs - profile.macs(LayerKind::large_depthwise);

  Json object = {{"model", network.architecture().name},
                 {"size", size.to_string()},
                 {"batch", arguments.batch},
                 {"threads", network.threads()},
                 {"precision", name(network.precision())},
                 {"weights", loaded.weights.source->describe()},
                 {"rounds", arguments.rounds},
                 {"ms", 1e3 * seconds},
                 {"images_per_second", arguments.batch / seconds},
                 {"large_depthwise_ms", 1e3 * depthwise_seconds},
                 {"other_gmac", 1e-9 * other_macs},
                 {"peak_gflops", measurement.peak_gflops},
                 {"product_peak_gflops", measurement.product_peak_gflops},
                 {"first_result_ms", 1e3 * measurement.first_result_seconds},
                 {"peak_memory_bytes", measurement.peak_memory}};
  if (arguments.profile) object["profile"] = profile_rows(measurement);
  if (arguments.layers) object["layers"] = layer_rows(measurement);
  if (arguments.peers) object["peers"] = peer_rows(measurement, network.threads());
  if (json) {
    print_json(object);
    return exit_done;
  }
  fmt::print("{} at {}, batch {}, {} thread{}, weights: {}\n", network.architecture().name, size.to_string(),
             arguments.batch, network.threads(), network.threads() == 1 ? "" : "s", loaded.weights_note());
  const double other_gflops = 2e-9 * other_macs / (seconds - depthwise_seconds);
  fmt::print("  {:.2f} ms a run (median of {}), {:.2f} images a second\n", 1e3 * seconds, arguments.rounds,
             arguments.batch / seconds);
  fmt::print(
      "  {:.2f} ms of it in large depthwise layers; the rest, {:.2f} GMAC, at {:.0f} % of the fp32 peak of "
      "{:.1f} "
      "GFLOP/s\n",
      1e3 * depthwise_seconds, 1e-9 * other_macs, 100 * other_gflops / measurement.peak_gflops,
      measurement.peak_gflops);
  if (arguments.profile) print_profile(object["profile"]);
  if (arguments.layers) print_layers(object["layers"]);
  if (arguments.peers) print_peers(object["peers"], 1e3 * seconds);
  return exit_done;
}

}  // namespace

void add_bench_model(CLI::App& parent) {
  auto arguments = std::make_shared<Arguments>();
  CLI::App& command = add_command(parent, "model",
                                  "Time a network. The figures are of the whole batch: ms is the median of "
                                  "the rounds; large depthwise layers have a "
                                  "kernel side of 7 or more",
                                  [arguments](bool json) { return run(*arguments, json); });
  command.add_option("model", arguments->network.model, "The network, such as replknet-31b")
      ->type_name("NAME")
      ->required();
  add_weights_options(command, arguments->network);
  add_precision_option(command, arguments->network.precision);
  add_size_option(command, arguments->size, "Input size (default: the model's)");
  command.add_option("--batch", arguments->batch, "Images a run")
      ->type_name("N")
      ->check(CLI::Range(1, 1024))
      ->capture_default_str();
  command.add_option("--rounds", arguments->rounds, "Timed runs")
      ->type_name("N")
      ->check(CLI::Range(1, 10000))
      ->capture_default_str();
  command.add_flag("--profile", arguments->profile)
      ->description("Show time and share of peak by kind of layer");
  command.add_flag("--layers", arguments->layers)
      ->description("Show every layer, its time and what computes it");
  command.add_flag("--features", arguments->features)
      ->description("Compute the four stages' maps, without the head");
  command.add_flag("--peers", arguments->peers)
      ->description("Show every large depthwise shape beside the same layers in oneDNN");
}

}  // namespace replk::cli
