// replk bench depthwise SHAPE...: ours against oneDNN in this process.
#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <memory>
#include <string>
#include <vector>

#include "cli/commands.hpp"
#include "cli/common.hpp"
#include "cli/report_each.hpp"
#include "core/cpu.hpp"
#include "depthwise/problem/problem.hpp"
#include "measure/depthwise.hpp"
#include "measure/row_json.hpp"
#include "tuner/tuner.hpp"

namespace replk::cli {
namespace {

struct Arguments {
  std::vector<std::string> shapes;
  std::string algorithm, tiling;
  int threads = 0;
  double seconds = 1;
  bool no_peers = false;
};

std::string milliseconds(const std::optional<double>& ms) {
  return ms ? fmt::format("{:.3f}", *ms) : "-";
}

void print(const bench::DepthwiseRow& row) {
  fmt::print("{}\n  {:28} {:>9} ms   {}{}\n", row.shape, "replk", milliseconds(row.ms), row.tiling,
             row.source.empty() ? "" : " (" + row.source + ")");
  for (const bench::PeerTime& peer : row.peers)
    fmt::print("  {:28} {:>9} ms   {}\n", peer.name, milliseconds(peer.ms), peer.implementation);
  if (row.ratio) fmt::print("  {:.2f} times as fast as {}; ", *row.ratio, *row.best_peer);
  fmt::print(
      "{}largest error {:.1e} of the channel's largest output; {:.0f} % of the multiply-add peak ({:.1f} "
      "GFLOP/s, "
      "{} thread{}) in taps that meet the map, {:.0f} % in real operations\n",
      row.ratio ? "" : "  ", row.max_relative_error, row.percent_of_peak, row.peak_gflops, row.threads,
      row.threads > 1 ? "s" : "", row.percent_of_limit);
  if (!row.note.empty()) fmt::print("  {}\n", row.note);
}

bench::DepthwiseRow tuned_and_measured(const depthwise::Problem& problem,
                                       const bench::DepthwiseOptions& options) {
  const TuneFirst tune_first;
  return measure_depthwise(problem, options);
}

ExitCode run(const Arguments& arguments, bool json) {
  std::vector<depthwise::Problem> problems;  // all are read before any is timed
  for (const std::string& shape : arguments.shapes) problems.push_back(depthwise::parse(shape));
  tuner::tune_unless_set();
  bench::DepthwiseOptions options;
  options.threads = arguments.threads;
  options.visits = 3;
  options.race.seconds = arguments.seconds / options.visits;
  options.peers = !arguments.no_peers;
  if (!arguments.algorithm.empty()) options.plan.algorithm = arguments.algorithm;
  if (!arguments.tiling.empty()) options.plan.tiling = depthwise::Tiling::parse(arguments.tiling);

  return report_each(
      problems, json, [&](const depthwise::Problem& p) { return tuned_and_measured(p, options); },
      bench::to_json, print);
}

}  // namespace

void add_bench_depthwise(CLI::App& parent) {
  auto arguments = std::make_shared<Arguments>();
  CLI::App& command = add_command(parent, "depthwise", "Time depthwise convolutions against oneDNN",
                                  [arguments](bool json) { return run(*arguments, json); });
  command.add_option("shape", arguments->shapes, "Shapes, such as n1c128h56w56k31")->required();
  add_threads_option(command, arguments->threads);
  command.add_option("--algorithm", arguments->algorithm,
                     "The best tiling of this algorithm instead of the best of all");
  command.add_option("--tiling", arguments->tiling, "This tiling, as an earlier run printed it");
  command.add_option("--seconds", arguments->seconds, "How long to time a shape where 15 rounds take less")
      ->check(CLI::Range(0.0, 600.0));
  command.add_flag("--no-peers", arguments->no_peers, "Do not time other libraries");
}

}  // namespace replk::cli
