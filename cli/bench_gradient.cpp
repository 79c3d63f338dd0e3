// replk bench gradient SHAPE...: what a step of training takes.
#include <fmt/format.h>
#include <fmt/ranges.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <memory>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "cli/commands.hpp"
#include "cli/common.hpp"
#include "cli/report_each.hpp"
#include "depthwise/gradient/input_gradient.hpp"
#include "depthwise/problem/problem.hpp"
#include "measure/gradient.hpp"
#include "tuner/tuner.hpp"

namespace replk::cli {
namespace {

using Json = nlohmann::ordered_json;

struct Arguments {
  std::vector<std::string> shapes;
  int threads = 0;
  double seconds = 1;
};

double error_of(const bench::GradientRow& row) {
  return std::max(row.input_gradient_error, row.weight_gradient_error);
}

Json to_json(const bench::GradientRow& row) {
  return {{"shape", row.shape},
          {"forward_ms", row.forward_ms},
          {"input_gradient_ms", row.input_gradient_ms},
          {"weight_gradient_ms", row.weight_gradient_ms},
          {"set_weights_ms", row.set_weights_ms},
          {"max_relative_error", error_of(row)},
          {"step_ms", row.step_ms()},
          {"threads", row.threads},
          {"forward_tiling", row.forward_tiling},
          {"input_gradient_tilings", row.input_gradient_tilings},
          {"weight_gradient_tiling", row.weight_gradient_tiling},
          {"input_gradient_error", row.input_gradient_error},
          {"weight_gradient_error", row.weight_gradient_error},
          {"checked_channels", row.checked_channels},
          {"peak_gflops", row.peak_gflops},
          {"workspace_bytes", row.workspace_bytes},
          {"prepared_bytes", row.prepared_bytes}};
}

void print(const bench::GradientRow& row) {
  fmt::print("{}\n", row.shape);
  const auto line = [](const char* what, double ms, const std::string& tiling) {
    fmt::print("  {:24} {:>9.3f} ms   {}\n", what, ms, tiling);
  };
  line("forward", row.forward_ms, row.forward_tiling);
  line("gradient of the input", row.input_gradient_ms,
       fmt::format("{}", fmt::join(row.input_gradient_tilings, "; ")));
  line("gradient of the weights", row.weight_gradient_ms, row.weight_gradient_tiling);
  line("other weights", row.set_weights_ms, "");
  fmt::print(
      "  {:24} {:>9.3f} ms   {} thread{}; largest error {:.1e} (input), {:.1e} (weights) of the channel's "
      "largest gradient\n",
      "together", row.step_ms(), row.threads, row.threads > 1 ? "s" : "", row.input_gradient_error,
      row.weight_gradient_error);
}

bench::GradientRow tuned_and_measured(const depthwise::Problem& problem,
                                      const bench::GradientOptions& options) {
  const TuneFirst tune_first;
  return measure_gradient(problem, options);
}

ExitCode run(const Arguments& arguments, bool json) {
  std::vector<depthwise::Problem> problems;  // all are read before any is timed
  for (const std::string& shape : arguments.shapes) {
    problems.push_back(depthwise::parse(shape));
    depthwise::check_gradient(problems.back());
  }
  tuner::tune_unless_set();
  bench::GradientOptions options;
  options.threads = arguments.threads;
  options.race.seconds = arguments.seconds;

  return report_each(
      problems, json, [&](const depthwise::Problem& p) { return tuned_and_measured(p, options); }, to_json,
      print);
}

}  // namespace

void add_bench_gradient(CLI::App& parent) {
  auto arguments = std::make_shared<Arguments>();
  CLI::App& command =
      add_command(parent, "gradient", "Time the forward pass and both gradients of depthwise convolutions",
                  [arguments](bool json) { return run(*arguments, json); });
  command.add_option("shape", arguments->shapes, "Shapes, such as n8c384h14w14k7")->required();
  add_threads_option(command, arguments->threads);
  command.add_option("--seconds", arguments->seconds, "How long to time a shape where 15 rounds take less")
      ->check(CLI::Range(0.0, 600.0));
}

}  // namespace replk::cli
