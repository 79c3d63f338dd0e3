// Fits the constants of the cost model to the CPU at hand. Tilings of many shapes are timed on one core, good
// and bad ones; then the constants of this CPU's row are moved, one at a time, until predictions and times
// agree best, and the row is printed as lib/depthwise/cost/machine.cpp wants it.
//
//   replk_fit_machine measure >> times.txt       (REPLK_MAX_ISA chooses the row; parts: --first N --count N)
//   replk_fit_machine fit times.txt
#include <fmt/format.h>
#include <time.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <fstream>
#include <iostream>
#include <limits>
#include <map>
#include <memory>
#include <random>
#include <string>
#include <utility>
#include <vector>

#include "core/error.hpp"
#include "depthwise/choose/choice.hpp"
#include "depthwise/choose/trial.hpp"

namespace {

using namespace replk;
using depthwise::Machine;

/// Kernels of all sizes on maps of all sizes, whose tensors fit the L2 or do not.
const std::vector<std::string> default_shapes{
    "n1c128h56w56k31",    "n1c256h28w28k29",          "n1c512h14w14k27",   "n1c1024h7w7k13",
    "n1c128h96w96k31",    "n1c512h24w24k27",          "n1c1024h12w12k13",  "n1c192h56w56k31",
    "n1c128h56w56k9",     "n1c128h56w56k13",          "n1c128h56w56k21",   "n1c512h14w14k13",
    "n1c128h56w56k3",     "n1c128h56w56k5",           "n1c128h56w56k51x5", "n1c128h56w56k51",
    "n1c96h56w56k7",      "n1c192h28w28k7",           "n1c384h14w14k7",    "n1c768h7w7k7",
    "n1c96h96w96k7",      "n1c384h24w24k7",           "n1c384h32w32k5",    "n1c384h32w32k17",
    "n1c64h128w128k5",    "n1c16h56w56k31",           "n1c32h32w32k13",    "n1c64h128w128k31",
    "n8c128h28w28k3",     "n8c512h14w14k7",           "n8c64h56w56k13",    "n1c40h40w40k11",
    "n1c128h56w56k7nchw", "n1c128h28w28k27+residual", "n1c256h56w56k3s2"};

double processor_seconds() {
  timespec time;
  ::clock_gettime(CLOCK_THREAD_CPUTIME_ID, &time);
  return static_cast<double>(time.tv_sec) + 1e-9 * static_cast<double>(time.tv_nsec);
}

depthwise::Request request_of(const std::string& shape) {
  return {depthwise::parse(shape), depthwise::Pass::forward, depthwise::plan_features({}), 1};
}

/// Of each algorithm the best predicted, and as many others at random within ten times its prediction.
std::vector<std::string> some_tilings(const depthwise::Request& request, std::size_t each) {
  std::vector<std::string> some;
  std::mt19937 random(7);
  for (const depthwise::Algorithm* algorithm : depthwise::algorithms()) {
    if (algorithm->name() == "portable" || algorithm->name() == "stripes") continue;
    std::vector<depthwise::Candidate> all = algorithm->candidates(request, SIZE_MAX);
    std::erase_if(all, [&, best = all.empty() ? 0 : all[0].predicted_seconds](const auto& c) {
      return c.predicted_seconds > 10 * best;
    });
    if (all.size() > 2 * each) {
      std::shuffle(all.begin() + static_cast<std::ptrdiff_t>(each), all.end(), random);
      all.resize(2 * each);
    }
    for (const depthwise::Candidate& c : all) some.push_back(c.tiling.to_string());
  }
  return some;
}

/// The least of five times, each of at least 2 ms.
double time_of(depthwise::Trial& trial, const std::string& tiling) {
  double least = std::numeric_limits<double>::infinity();
  for (int repeat = 0; repeat < 5; repeat++) {
    int runs = 0;
    const double start = processor_seconds();
    double passed = 0;
    do {
      trial.run(tiling);
      runs++;
      passed = processor_seconds() - start;
    } while (passed < 2e-3);
    least = std::min(least, passed / runs);
  }
  return least;
}

void measure(const std::vector<std::string>& shapes, std::size_t each) {
  for (const std::string& shape : shapes) {
    const depthwise::Request request = request_of(shape);
    depthwise::Trial trial(request);
    for (const std::string& tiling : some_tilings(request, each)) {
      if (!trial.verify(tiling)) continue;
      fmt::print("{}\t{}\t{:.6e}\n", shape, tiling, time_of(trial, tiling));
      std::fflush(stdout);
      trial.release(tiling);
    }
  }
}

struct Timed {
  std::string shape;
  std::shared_ptr<const depthwise::Variant> variant;
  double seconds, weight;
};

std::vector<Timed> read_times(const std::string& path) {
  std::ifstream file(path);
  std::vector<Timed> all;
  std::map<std::string, double> best;
  std::map<std::string, std::unique_ptr<depthwise::Request>> requests;
  for (std::string shape, tiling, seconds;
       std::getline(file, shape, '\t') && std::getline(file, tiling, '\t') && std::getline(file, seconds);) {
    auto& request = requests[shape];
    if (!request) request = std::make_unique<depthwise::Request>(request_of(shape));
    const auto choice = depthwise::read_choice(tiling, *request);
    const double time = std::strtod(seconds.c_str(), nullptr);
    if (!choice || !(time > 0)) continue;  // of another version or instruction set, or no time
    all.push_back({shape, choice->variant, time, 1});
    double& least = best.try_emplace(shape, all.back().seconds).first->second;
    least = std::min(least, all.back().seconds);
  }
  // What a pick is made among counts most.
  for (Timed& t : all) t.weight = std::min(1.0, 1.5 * best[t.shape] / t.seconds);
  return all;
}

/// How much longer than the fastest the best predicted tiling of each shape takes, by shape.
std::map<std::string, double> regrets(const std::vector<Timed>& all, const Machine& m) {
  struct Best {
    double predicted, pick, least;
  };
  std::map<std::string, Best> best;
  for (const Timed& t : all) {
    const double predicted = t.variant->predict(m);
    Best& b = best.try_emplace(t.shape, Best{predicted, t.seconds, t.seconds}).first->second;
    if (predicted < b.predicted) b.predicted = predicted, b.pick = t.seconds;
    b.least = std::min(b.least, t.seconds);
  }
  std::map<std::string, double> ratios;
  for (const auto& [shape, b] : best) ratios[shape] = b.pick / b.least;
  return ratios;
}

double mean_logarithm(const std::map<std::string, double>& ratios) {
  double sum = 0;
  for (const auto& [shape, ratio] : ratios) sum += std::log(ratio);
  return sum / static_cast<double>(ratios.size());
}

/// The mean error of predictions: of logarithms, as ratios are what picks go by, and not squared where it is
/// large, since some tilings meet what no constant describes.
double error_of(const std::vector<Timed>& all, const Machine& m) {
  double sum = 0, weights = 0;
  for (const Timed& t : all) {
    const double off = std::fabs(std::log(t.variant->predict(m) / t.seconds));
    sum += t.weight * (off < 0.2 ? off * off : 0.4 * off - 0.04);
    weights += t.weight;
  }
  return sum / weights;
}

/// What a fit makes small: errors, and what wrong picks cost.
double badness(const std::vector<Timed>& all, const Machine& m) {
  return error_of(all, m) + 0.3 * mean_logarithm(regrets(all, m));
}

void print_state(const std::vector<Timed>& all, const Machine& m, const char* which) {
  const std::map<std::string, double> ratios = regrets(all, m);
  std::cerr << fmt::format("{}: error {:.4f}; picks take {:.3f} times the best, {} shapes, {} times\n", which,
                           error_of(all, m), std::exp(mean_logarithm(ratios)), ratios.size(), all.size());
  for (const auto& [shape, ratio] : ratios)
    if (ratio > 1.2) std::cerr << fmt::format("  {} {:.2f}\n", shape, ratio);
}

void fit(const std::string& path) {
  const std::vector<Timed> all = read_times(path);
  if (all.empty()) {
    std::cerr << path << " holds no times of this CPU's tilings\n";
    return;
  }
  Machine m = depthwise::machine(depthwise::plan_features({}));
  print_state(all, m, "before");
  double least = badness(all, m);
  const auto improve = [&](double& constant, double by) {
    const double before = constant;
    constant *= by;
    const double now = badness(all, m);
    if (now >= least) return constant = before, false;
    return least = now, true;
  };
  for (double step = 1.25; step > 1.02; step = std::sqrt(step))
    for (int round = 0; round < 3; round++)
      each_constant(m, [&](const char*, double& constant) {
        if (!improve(constant, step)) improve(constant, 1 / step);
      });
  print_state(all, m, "after");
  each_constant(m, [](const char* name, double constant) { fmt::print(".{} = {:.4g},\n", name, constant); });
}

}  // namespace

int main(int argc, char** argv) try {
  CLI::App app("Fits the constants of the depthwise cost model to this CPU");
  app.require_subcommand(1);
  std::vector<std::string> shapes;
  std::size_t each = 6, first = 0, count = SIZE_MAX;
  CLI::App* measuring =
      app.add_subcommand("measure", "Time tilings on one core; prints shape, tiling, seconds");
  measuring->add_option("shape", shapes, "Shapes (default: 35 of all kinds)");
  measuring->add_option("--each", each, "Best predicted tilings of an algorithm, and as many others");
  measuring->add_option("--first", first, "The first shape, from 0");
  measuring->add_option("--count", count, "How many");
  std::string path;
  CLI::App* fitting = app.add_subcommand("fit", "Fit this CPU's row to times, and print it");
  fitting->add_option("FILE", path, "What `measure` printed")->required()->check(CLI::ExistingFile);
  CLI11_PARSE(app, argc, argv);
  if (fitting->parsed()) return fit(path), 0;
  if (shapes.empty()) shapes = default_shapes;
  shapes.erase(shapes.begin(), shapes.begin() + static_cast<std::ptrdiff_t>(std::min(first, shapes.size())));
  shapes.resize(std::min(count, shapes.size()));
  measure(shapes, each);
} catch (const core::Error& error) {
  std::cerr << "replk_fit_machine: " << error.what() << "\n";
  return 1;
}
