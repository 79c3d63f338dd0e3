// The suites as Google Benchmark programs: every row is planned, checked and raced against oneDNN by
// measure, and its rounds become the benchmark's iterations, so that --benchmark_filter,
// --benchmark_format and the rest work as usual.
#include <benchmark/benchmark.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <cstdio>
#include <deque>
#include <fstream>
#include <nlohmann/json.hpp>
#include <set>

#include "bench/shapes.hpp"
#include "bench/visit.hpp"
#include "core/cpu.hpp"
#include "core/error.hpp"
#include "measure/depthwise.hpp"
#include "measure/limits.hpp"
#include "measure/row_json.hpp"
#include "tuner/tuner.hpp"

namespace replk::bench {
namespace {

using nlohmann::ordered_json;

struct Options {
  std::string suites = "replknet,slak,convnext,table1,sizes,ragged", out;
  int visits = 3;
  bool quick = false;
  VisitOptions visit{.cold_rounds = 5};
  std::string shape;  // of a child's visit
};

/// What the operations of a row need at least, in milliseconds, and by which of the machine's limits.
struct Bound {
  const char* limit = "";
  double ms = 0;
};

Bound nearest_limit(const DepthwiseRow& row, const Limits& one, double clock) {
  const double n = row.threads * clock;  // the clock of the row over that of the limits
  const Bound bounds[] = {
      {"multiply-add", 2e-6 * row.fma / (one.fma_gflops * n)},
      {"addition", 1e-6 * row.add / (one.add_gops * n)},
      {"multiply-add and addition", 1e-6 * (row.fma + row.add) / (one.mixed_gops * n)},
      {"L2 stream of tensors and weights", 1e-6 * row.bytes_moved / (one.l2_gbs * n)},
  };
  return *std::max_element(std::begin(bounds), std::end(bounds),
                           [](auto& a, auto& b) { return a.ms < b.ms; });
}

/// The row with what follows from it and the machine's limits.
ordered_json row_json(const Suite& suite, const std::string& shape, const DepthwiseRow& row,
                      const Limits& limits) {
  const Bound bound = nearest_limit(row, limits, row.peak_gflops / (limits.fma_gflops * row.threads));
  ordered_json json = to_json(row);
  json["suite"] = suite.name;
  json["shape"] = shape;  // as the suite spells it
  json["useful_gflop"] = 1e-3 * row.useful_gflops * row.ms;
  json["real_gflop"] = 1e-9 * (2 * row.fma + row.add);
  json["limit"] = bound.limit;
  json["percent_of_limit"] = 100 * bound.ms / row.ms;  // of the nearest one, not of multiply-adds alone
  return json;
}

constexpr int kMoreVisits = 3;  // times two

/// Google Benchmark comes back to a row in random order, after whatever disturbed it before.
struct Visited {
  const Suite* suite;
  std::string shape;
  std::vector<DepthwiseRow> visits;
};

void visit_once(Visited& row, VisitOptions options) {
  if (!row.visits.empty()) {  // what the first visit settled
    options.skipped_peers = hopeless_peers(row.visits.front());
    options.cold_rounds = 0;
  }
  row.visits.push_back(visit_in_child(row.shape, options));
}

/// Two visits more, and two more again, to the rows whose visits do not agree.
void visit_the_undecided(std::deque<Visited>& visited, const VisitOptions& options) {
  for (int more = 0; more < kMoreVisits; more++)
    for (Visited& row : visited)
      if (undecided(row.visits))
        for (int i = 0; i < 2; i++) visit_once(row, options);
}

/// Gives a row's rounds to Google Benchmark.
void give_rounds(benchmark::State& state, const DepthwiseRow& row) {
  std::size_t round = 0;
  for (auto _ : state) state.SetIterationTime(1e-3 * row.rounds_ms[round++ % row.rounds_ms.size()]);
  if (row.ratio) state.counters["ratio"] = *row.ratio;
  state.counters["GFLOPS"] = row.useful_gflops;
  state.counters["%peak"] = row.percent_of_peak;
  state.SetLabel(row.tiling);
}

/// Whether all names of the list are suites; says which is not.
bool are_suites(const std::string& list) {
  for (std::size_t begin = 0; begin < list.size();) {
    const std::size_t end = std::min(list.find(',', begin), list.size());
    const std::string name = list.substr(begin, end - begin);
    if (std::none_of(suites().begin(), suites().end(), [&](const Suite& s) { return s.name == name; })) {
      std::fprintf(stderr, "--suites: '%s' is not one of replknet, slak, convnext, table1, sizes, ragged\n",
                   name.c_str());
      return false;
    }
    begin = end + 1;
  }
  return true;
}

/// Makes a row a benchmark. wrong: set where a visit fails.
void register_row(Visited& row, const Options& options, bool& wrong) {
  const auto visit = [&](benchmark::State& state) {
    try {
      visit_once(row, options.visit);
      give_rounds(state, row.visits.back());
    } catch (const core::Error& e) {
      wrong = true;
      state.SkipWithError(e.what());
    }
  };
  benchmark::RegisterBenchmark(fmt::format("{}/{}", row.suite->name, row.shape).c_str(), visit)
      ->UseManualTime()
      ->Iterations(15)
      ->Repetitions(options.visits)
      ->Unit(benchmark::kMillisecond);
}

ordered_json results_json(const ordered_json& rows, const Limits& limits, const Options& options) {
  const core::Cpu& cpu = core::cpu();
  const ordered_json run{{"cpu", cpu.brand},
                         {"isa", name(cpu.isa)},
                         {"cores", cpu.cores},
                         {"threads", options.visit.threads},
                         {"quick", options.quick}};
  return {{"context", run},
          {"limits",
           {{"fma_gflops", limits.fma_gflops},
            {"add_gops", limits.add_gops},
            {"mixed_gops", limits.mixed_gops},
            {"load_gbs", limits.load_gbs},
            {"l2_gbs", limits.l2_gbs},
            {"memory_gbs", limits.memory_gbs}}},
          {"rows", rows}};
}

int run(const Options& options) {
  if (!are_suites(options.suites)) return 2;
  const std::string list = "," + options.suites + ",";
  const Limits limits = measure_limits();
  std::deque<Visited> visited;  // does not move its elements
  bool wrong = false;
  for (const Suite& suite : suites()) {
    if (list.find(fmt::format(",{},", suite.name)) == std::string::npos) continue;
    for (const std::string& shape : suite.shapes)
      register_row(visited.emplace_back(Visited{&suite, shape, {}}), options, wrong);
  }
  benchmark::RunSpecifiedBenchmarks();
  try {
    visit_the_undecided(visited, options.visit);
  } catch (const core::Error& e) {
    std::fprintf(stderr, "%s\n", e.what());
    wrong = true;
  }
  ordered_json rows = ordered_json::array();
  for (Visited& row : visited)
    if (!row.visits.empty())
      rows.push_back(row_json(*row.suite, row.shape, middle_of(std::move(row.visits)), limits));
  if (!options.out.empty()) {
    std::ofstream file(options.out);
    file << results_json(rows, limits, options).dump(1) << '\n';
    if (!file) {
      std::fprintf(stderr, "--out: cannot write '%s'\n", options.out.c_str());
      return 2;
    }
  }
  return wrong ? 1 : 0;
}

}  // namespace
}  // namespace replk::bench

int main(int argc, char** argv) {
  replk::bench::Options options;
  CLI::App app(
      "Depthwise convolution here and in oneDNN. Options of Google Benchmark (--benchmark_filter=...) work "
      "too.");
  app.allow_extras();
  app.add_option("--suites", options.suites, "of replknet,slak,convnext,table1,sizes,ragged")
      ->capture_default_str();
  app.add_option("--threads", options.visit.threads, "for both sides")
      ->check(CLI::Range(1, 1024))
      ->capture_default_str();
  app.add_option("--out", options.out, "write the rows there, as JSON");
  app.add_option("--visits", options.visits, "of each row, in random order")
      ->check(CLI::Range(1, 100))
      ->capture_default_str();
  app.add_flag("--quick", options.quick, "said in the file");
  app.add_flag("--spoil", options.visit.spoil,
               "change one output of every kernel of ours, to show that the check sees it");
  // For the processes that this one starts.
  app.add_option("--visit", options.shape)->group("");
  app.add_option("--skip-peer", options.visit.skipped_peers)->group("");
  app.add_option("--cold-rounds", options.visit.cold_rounds)->group("");
  CLI11_PARSE(app, argc, argv);
  replk::tuner::tune_unless_set();
  if (!options.shape.empty()) return replk::bench::visit_as_child(options.shape, options.visit);
  std::vector<std::string> rest = app.remaining();
  std::string interleaved = "--benchmark_enable_random_interleaving=true";
  std::vector<char*> arguments{argv[0], interleaved.data()};
  for (std::string& word : rest) arguments.push_back(word.data());
  int count = static_cast<int>(arguments.size());
  benchmark::Initialize(&count, arguments.data());
  if (benchmark::ReportUnrecognizedArguments(count, arguments.data())) return 2;
  return replk::bench::run(options);
}
