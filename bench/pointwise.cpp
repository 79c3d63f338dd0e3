// What choosing an engine for each pointwise layer of a network is worth: the time of all of them with the
// tuner's picks, with oneDNN's matmul everywhere, with its convolution everywhere, and with our own matrix
// product. Each layer's contenders run in interleaved rounds, checked first.
#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <array>
#include <functional>
#include <map>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "bench/options.hpp"
#include "core/error.hpp"
#include "dense/choice.hpp"
#include "measure/race.hpp"
#include "model/workload.hpp"
#include "tuner/tuner.hpp"

namespace {

using namespace replk;
using Json = nlohmann::ordered_json;

/// A way to choose: the tuner's, or always the first candidate whose text begins so (as oneDNN orders its
/// implementations, and we our blockings).
struct Way {
  const char *name, *prefix;
};
constexpr std::array<Way, 4> ways{{{"tuned", ""},
                                   {"matmul", "onednn primitive=matmul"},
                                   {"convolution", "onednn primitive=convolution"},
                                   {"gemm", "gemm "}}};

std::string pick(const Way& way, const tuner::Question& question, const tuner::Settings& settings,
                 tuner::Cache& cache) {
  if (!*way.prefix) return tuner::choose(question, settings, cache).text;
  for (const tuner::Candidate& each : question.candidates())
    if (each.text.starts_with(way.prefix)) return each.text;
  core::fail(core::Status::unsupported, "{} is no choice for {} here", way.name, question.key.shape);
}

/// A run of each of the picks that differ, checked; index_of: where a pick's run is.
std::vector<std::function<void()>> checked_runs(const tuner::Question& question,
                                                const std::array<std::string, ways.size()>& picks,
                                                std::map<std::string, std::size_t>& index_of) {
  std::vector<std::function<void()>> runs;
  for (const std::string& text : picks) {
    if (!index_of.emplace(text, runs.size()).second) continue;
    if (!question.runner.verify(text))
      core::fail(core::Status::internal, "{}: '{}' gives a wrong result", question.key.shape, text);
    runs.push_back([&question, text] { question.runner.run(text); });
  }
  return runs;
}

}  // namespace

int main(int argc, char** argv) try {
  CLI::App app("Pointwise layers of a network: the tuner's picks against one engine everywhere");
  std::string name = "replknet-31b";
  int size = 224;
  double seconds = 2;
  bench::Options options;
  app.add_option("--model", name, "The network");
  app.add_option("--size", size, "Height and width of its input")->check(CLI::Range(32, 16384));
  app.add_option("--seconds", seconds, "For each layer, to tune it and to time it");
  bench::add_options(app, options);
  CLI11_PARSE(app, argc, argv);

  const model::Architecture architecture = model::find_architecture(name);
  const model::Workload work = model::workload(architecture, {1, size, size}, architecture.classes).whole;
  tuner::Settings settings;
  settings.mode = tuner::Mode::now;
  settings.budget_seconds = seconds;
  tuner::Cache nothing({}, {}, "not stored");
  std::array<double, ways.size()> sums{};
  Json rows = Json::array();
  for (std::size_t i = 0; i < work.linears.size(); i++) {
    const tuner::Question question = dense::question(work.linears[i], options.threads);
    std::array<std::string, ways.size()> picks;
    for (std::size_t w = 0; w < ways.size(); w++) picks[w] = pick(ways[w], question, settings, nothing);
    std::map<std::string, std::size_t> contenders;
    const std::vector<std::function<void()>> runs = checked_runs(question, picks, contenders);
    bench::RaceOptions race_options;
    race_options.seconds = seconds;
    const std::vector<bench::Times> times = bench::race(runs, race_options);
    Json row{{"layer", question.key.shape}, {"runs", work.linear_runs[i]}, {"pick", picks[0]}};
    for (std::size_t w = 0; w < ways.size(); w++) {
      const double ms = times[contenders.at(picks[w])].median() * 1e3;
      sums[w] += ms * work.linear_runs[i];
      row[std::string(ways[w].name) + "_ms"] = ms;
    }
    if (!options.json)
      fmt::print("{:44} x{:<3} {:8.3f} tuned {:8.3f} matmul {:8.3f} convolution {:8.3f} gemm   {}\n",
                 question.key.shape, work.linear_runs[i], row["tuned_ms"].get<double>(),
                 row["matmul_ms"].get<double>(), row["convolution_ms"].get<double>(),
                 row["gemm_ms"].get<double>(), picks[0]);
    rows.push_back(std::move(row));
  }
  Json total{{"model", name}, {"size", size}, {"threads", options.threads}, {"rows", rows}};
  for (std::size_t w = 0; w < ways.size(); w++) total[std::string(ways[w].name) + "_ms"] = sums[w];
  if (options.json)
    fmt::print("{}\n", total.dump(2));
  else
    fmt::print(
        "all of {} at {}, {} threads, ms: tuned {:.2f}, always matmul {:.2f}, always convolution {:.2f}, "
        "always gemm {:.2f}\n",
        name, size, options.threads, sums[0], sums[1], sums[2], sums[3]);
  return 0;
} catch (const core::Error& error) {
  fmt::print(stderr, "{}\n", error.what());
  return 2;
}
