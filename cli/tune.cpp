// replk tune: measures once, so that every later plan on this machine is the fastest one.
#include <fmt/format.h>
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <chrono>
#include <cstdio>
#include <memory>
#include <nlohmann/json.hpp>
#include <optional>

#include "cli/commands.hpp"
#include "cli/common.hpp"
#include "cli/network.hpp"
#include "cli/table.hpp"
#include "cli/tunable.hpp"
#include "core/error.hpp"

namespace replk::cli {
namespace {

using Json = nlohmann::ordered_json;

struct Arguments {
  std::vector<std::string> shapes;
  std::string model;
  std::optional<Precision> precision;
  std::optional<Size> size;
  int batch = 1, threads = 0;
  double budget = 0;  // seconds; 0: so much a shape
  bool again = false;
  bool cold = false;  // a network always is
  depthwise::Pass pass = depthwise::Pass::forward;
};

/// One line on a terminal, rewritten: shapes done, the best so far, time left.
class TuneProgress {
 public:
  TuneProgress(std::size_t total, double seconds_each) : total_(total), each_(seconds_each) {
    shown_ = isatty(STDERR_FILENO);
  }
  ~TuneProgress() {
    if (shown_) fmt::print(stderr, "\r\033[K");
  }
  void start(std::size_t done) { done_ = done; }
  void draw(const tuner::Progress& p) const {
    if (!shown_) return;
    const double left = each_ * static_cast<double>(total_ - done_);
    std::string line = fmt::format("{} of {}, at most {:.0f} s left; {}: {:.3f} ms {}, {} in the race", done_,
                                   total_, left, p.shape, p.seconds * 1e3, p.leader, p.left);
    if (line.size() > 118) line.resize(118);
    fmt::print(stderr, "\r\033[K{}", line);
    std::fflush(stderr);
  }

 private:
  std::size_t total_, done_ = 0;
  double each_;
  bool shown_;
};

std::vector<tuner::Question> questions_asked(const Arguments& a) {
  if (a.shapes.empty() == a.model.empty())
    core::fail(core::Status::invalid_argument, "tune: give either shapes or --model; see replk tune --help");
  if (a.model.empty() && a.precision)
    core::fail(core::Status::invalid_argument, "--precision: goes with --model; a shape has its own (+int8)");
  if (a.model.empty()) {
    std::vector<tuner::Question> questions;
    for (const std::string& shape : a.shapes)
      for (const std::string& each : shapes_of_pass(shape, a.pass))
        questions.push_back(ask(each, a.threads, a.pass, a.cold));
    return questions;
  }
  if (a.pass != depthwise::Pass::forward)
    core::fail(core::Status::invalid_argument,
               "--pass: goes with shapes; a network has the forward pass alone");
  const model::Architecture architecture = model::find_architecture(a.model);
  const int side = architecture.preprocessing.size;
  const Size size = a.size.value_or(Size{side, side});
  return questions_of(model::workload(architecture, {a.batch, size.height, size.width}, architecture.classes,
                                      a.precision.value_or(Precision::fp32)),
                      a.threads);
}

ExitCode run(const Arguments& a, bool json) {
  using Clock = std::chrono::steady_clock;
  const auto seconds_since = [](Clock::time_point t) {
    return std::chrono::duration<double>(Clock::now() - t).count();
  };
  const Clock::time_point start = Clock::now();

  std::vector<tuner::Question> questions = questions_asked(a);  // all are read before any is measured

  tuner::Settings settings = tuner::settings();
  settings.mode = tuner::Mode::now;
  settings.again = a.again;
  const double standard = settings.budget_seconds;
  TuneProgress progress(questions.size(),
                        a.budget > 0 ? a.budget / static_cast<double>(questions.size()) : standard);
  settings.progress = [&](const tuner::Progress& p) { progress.draw(p); };

  Json rows = Json::array();
  Table table({"shape", "ms", "confidence", "source", "pick"});
  int tainted = 0;
  for (std::size_t i = 0; i < questions.size(); i++) {
    // What one shape leaves of the budget, the others share.
    if (a.budget > 0)
      settings.budget_seconds =
          std::max(0.0, a.budget - seconds_since(start)) / static_cast<double>(questions.size() - i);
    progress.start(i);
    const Clock::time_point from = Clock::now();
    const tuner::Choice choice = tuner::choose(questions[i], settings, tuner::process_cache());
    questions[i].runner = {};  // frees what it measured on
    const std::string& shape = questions[i].key.shape;
    tainted += choice.tainted;
    rows.push_back({{"shape", shape},
                    {"pick", choice.text},
                    {"source", choice.source},
                    {"ms", choice.seconds * 1e3},
                    {"confidence", choice.confidence},
                    {"tainted", choice.tainted},
                    {"seconds", seconds_since(from)}});
    table.add({shape, fmt::format("{:.3f}", choice.seconds * 1e3),
               fmt::format("{:.0f} %{}", choice.confidence * 100, choice.tainted ? ", disturbed" : ""),
               choice.source, choice.text});
  }
  const double seconds = seconds_since(start);
  const std::string& path = tuner::process_cache().user_path();
  if (json) {
    print_json({{"rows", rows}, {"seconds", seconds}, {"tainted", tainted}, {"path", path}});
  } else {
    table.print();
    fmt::print("{} choices in {:.1f} s, remembered in {}\n", questions.size(), seconds,
               path.empty() ? "nothing" : path);
    if (tainted > 0)
      fmt::print(
          "{} were measured on a disturbed machine: run it again with --again when the machine is quiet\n",
          tainted);
  }
  return exit_done;
}

}  // namespace

void add_tune(CLI::App& program) {
  auto arguments = std::make_shared<Arguments>();
  CLI::App& command = add_command(program, "tune", "Measure which algorithm is fastest here, and remember it",
                                  [arguments](bool json) { return run(*arguments, json); });
  command.add_option("shape", arguments->shapes, "Shapes, such as n1c128h56w56k31");
  command.add_option("--model", arguments->model, "Tune all layers of this network")->type_name("NAME");
  add_precision_option(command, arguments->precision);
  add_size_option(command, arguments->size, "Input size of the network (default: the network's own)");
  command.add_option("--batch", arguments->batch, "Images of a run of the network (default: 1)")
      ->check(CLI::Range(1, 4096))
      ->type_name("N");
  add_threads_option(command, arguments->threads);
  command
      .add_option("--budget", arguments->budget,
                  fmt::format("Seconds for all together (default: {} for each shape)", tuner::kBudgetSeconds))
      ->check(CLI::Range(0.01, 86400.0))
      ->type_name("SECONDS");
  command.add_flag("--again", arguments->again, "Measure what is remembered too");
  add_pass_option(command, arguments->pass);
  add_cold_option(command, arguments->cold);
}

}  // namespace replk::cli
