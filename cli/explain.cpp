// replk explain: every candidate of a shape, predicted and measured, and why the pick won.
#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <map>
#include <memory>
#include <nlohmann/json.hpp>
#include <optional>
#include <tuple>

#include "cli/commands.hpp"
#include "cli/common.hpp"
#include "cli/table.hpp"
#include "cli/tunable.hpp"
#include "core/error.hpp"
#include "core/threads.hpp"
#include "depthwise/choose/choice.hpp"
#include "depthwise/choose/trial.hpp"
#include "depthwise/gradient/weight_trial.hpp"

namespace replk::cli {
namespace {

using Json = nlohmann::ordered_json;

constexpr int thread_counts[] = {1, 2, 8, 64};

struct Arguments {
  std::string shape;
  int threads = 0;
  double budget = tuner::kBudgetSeconds;
  bool again = false, cold = false;
  depthwise::Pass pass = depthwise::Pass::forward;
};

struct Row {
  std::string text, why;
  double predicted = 0, measured = 0;  // seconds; measured 0: not measured
};

/// What a race of this process says of each candidate.
std::string why(const tuner::Standing& standing) {
  switch (standing.fate) {
    case tuner::Standing::won:
      return "won";
    case tuner::Standing::tied:
      return fmt::format("tied ({:+.1f} %)", (standing.ratio - 1) * 100);
    case tuner::Standing::slower:
      return fmt::format("surely slower ({:+.0f} %)", (standing.ratio - 1) * 100);
    case tuner::Standing::unqualified:
      return "at least twice as slow as the best";
    case tuner::Standing::wrong:
      return "does not run or gives a wrong result";
    case tuner::Standing::untried:
      return "the budget ended before it";
  }
  return {};
}

/// All candidates with what is known of them, the pick first, then the measured ones by time, then by
/// prediction.
std::vector<Row> rows_of(const tuner::Question& question, const tuner::Choice& choice) {
  std::map<std::string, std::pair<double, std::string>> known;  // seconds and why, by text
  for (std::size_t i = 0; i < choice.raced.size(); i++)
    known[choice.raced[i].text] = {choice.standings[i].seconds, why(choice.standings[i])};
  if (choice.source == "cache") {
    for (const tuner::Record& record : tuner::process_cache().find(question.key)) {
      if (record.pick != choice.text) continue;
      for (const auto& [text, seconds] : record.measured)
        known[text] = {seconds,
                       fmt::format("{:+.0f} % when it was measured", (seconds / record.seconds - 1) * 100)};
      known[record.pick] = {record.seconds, fmt::format("won on {} ({} rounds)", record.date, record.rounds)};
      break;
    }
  }
  const std::vector<tuner::Candidate> candidates = question.candidates();
  const double best = candidates[tuner::best_predicted(candidates)].predicted_seconds;
  std::vector<Row> rows;
  for (const tuner::Candidate& each : candidates) {
    Row row{each.text, {}, each.predicted_seconds, 0};
    if (const auto found = known.find(each.text); found != known.end()) {
      row.measured = found->second.first;
      row.why = found->second.second;
      known.erase(found);
    } else {
      row.why = fmt::format("not measured: predicted {:.2f} times the best prediction",
                            each.predicted_seconds / best);
    }
    rows.push_back(row);
  }
  for (const auto& [text, fate] : known)
    rows.push_back({text, fate.second, 0, fate.first});  // a near shape's pick
  const auto is_pick = [&](const Row& row) { return row.text == choice.text; };
  if (std::none_of(rows.begin(), rows.end(), is_pick))
    rows.push_back({choice.text, "remembered, though not among the likely ones: " + choice.source, 0, 0});
  std::stable_sort(rows.begin(), rows.end(), [&](const Row& a, const Row& b) {
    const auto order = [&](const Row& r) {
      return std::make_tuple(r.text != choice.text, r.measured == 0, r.measured, r.predicted);
    };
    return order(a) < order(b);
  });
  return rows;
}

/// What a plan for so many threads makes of a pick.
struct Used {
  int threads = 1;                // that it uses: no more than its work feeds
  std::optional<double> seconds;  // that the cost model predicts, as if they shared the work out evenly
};

/// tiling: of a pick, on all threads where it has no `threads` of its own.
Used used_by(depthwise::Request request, const depthwise::Tiling& tiling, int threads) {
  if (request.pass != depthwise::Pass::forward) return {tiling.number("threads", threads), {}};
  request.threads = threads;
  std::optional<depthwise::Choice> choice = depthwise::read_choice(tiling.to_string(), request);
  if (!choice) return {threads, {}};
  choice = fed(*std::move(choice), request);
  return {choice->threads, choice->predict(request)};
}

/// Independent tasks of each phase of a depthwise pick, and what the model says, for so many threads.
template <class AnyTrial>
Json phases_of(AnyTrial&& trial, const depthwise::Request& request, const std::string& pick) {
  trial.verify(pick);
  const depthwise::Tiling picked = depthwise::Tiling::parse(pick);
  depthwise::Tiling on_all = picked;
  std::erase_if(on_all.fields, [](const auto& field) { return field.first == "threads"; });
  Json all = Json::array();
  for (int count : thread_counts) {
    const Used used = used_by(request, count == request.threads ? picked : on_all, count);
    Json phases = Json::array();
    for (const depthwise::Phase& phase : trial.executor(pick).phases(used.threads))
      phases.push_back({{"name", phase.name}, {"tasks", phase.tasks}});
    all.push_back({{"threads", count},
                   {"used_threads", used.threads},
                   {"phases", phases},
                   {"predicted_ms", used.seconds ? Json(1e3 * *used.seconds) : Json()}});
  }
  return all;
}

Json phases_of(const depthwise::Request& request, const std::string& pick) {
  if (request.pass == depthwise::Pass::weight_gradient)
    return phases_of(depthwise::WeightTrial(request.problem, request.isa(), request.threads), request, pick);
  return phases_of(depthwise::Trial(request), request, pick);
}

void print_phases(const Json& phases) {
  for (const Json& count : phases) {
    fmt::print("independent tasks for {} threads, {} used:", count["threads"].get<int>(),
               count["used_threads"].get<int>());
    for (const Json& phase : count["phases"])
      fmt::print(" {} {}", phase["name"].get<std::string>(), phase["tasks"].get<std::int64_t>());
    if (!count["predicted_ms"].is_null())
      fmt::print("; modelled, not measured: {:.3f} ms", count["predicted_ms"].get<double>());
    fmt::print("\n");
  }
}

/// What the pass of the shape asks the tuner about.
std::string shape_to_explain(const Arguments& a) {
  const std::vector<std::string> shapes = shapes_of_pass(a.shape, a.pass);
  if (shapes.size() != 1)
    core::fail(core::Status::invalid_argument,
               "--pass {}: {} is made of several convolutions; explain one at a time: {}", name(a.pass),
               a.shape, fmt::join(shapes, ", "));
  return shapes.front();
}

ExitCode run(const Arguments& a, bool json) {
  const std::string shape = shape_to_explain(a);
  const depthwise::Problem problem = depthwise::parse(shape);
  const auto pass = a.pass == depthwise::Pass::input_gradient ? depthwise::Pass::forward : a.pass;
  const int threads = a.threads > 0 ? a.threads : core::default_threads();
  const tuner::Question question = ask(shape, threads, a.pass, a.cold);
  // What is not remembered is measured, unless REPLK_TUNING forbids it: an explanation alone changes nothing.
  tuner::tune_unless_set();
  tuner::Settings settings = tuner::settings();
  if (a.again && settings.mode != tuner::Mode::now)
    core::fail(core::Status::invalid_argument,
               "--again measures, and REPLK_TUNING={} forbids it; unset it or say 'now'",
               settings.mode == tuner::Mode::off ? "off" : "cached");
  settings.again = a.again;
  settings.budget_seconds = a.budget;
  const tuner::Choice choice = tuner::choose(question, settings, tuner::process_cache());
  const std::vector<Row> rows = rows_of(question, choice);
  const depthwise::Request request(problem, pass, depthwise::plan_features({}), threads);
  const int used = used_by(request, depthwise::Tiling::parse(choice.text), threads).threads;
  const Json phases = phases_of(request, choice.text);

  if (json) {
    Json list = Json::array();
    for (const Row& row : rows)
      list.push_back({{"candidate", row.text},
                      {"predicted_ms", row.predicted > 0 ? Json(row.predicted * 1e3) : Json()},
                      {"measured_ms", row.measured > 0 ? Json(row.measured * 1e3) : Json()},
                      {"why", row.why}});
    print_json({{"shape", question.key.shape},
                {"pass", name(a.pass)},
                {"threads", threads},
                {"used_threads", used},
                {"pick", choice.text},
                {"source", choice.source},
                {"confidence", choice.confidence},
                {"tainted", choice.tainted},
                {"candidates", list},
                {"tasks", phases}});
    return exit_done;
  }
  fmt::print("{} on {} thread{}{}: {} ({}){}{}\n", question.key.shape, threads, threads > 1 ? "s" : "",
             used < threads ? fmt::format(", of which it uses {}", used) : "", choice.text, choice.source,
             choice.seconds > 0 ? fmt::format(", {:.0f} % sure that nothing raced is more than 1 % faster",
                                              choice.confidence * 100)
                                : "; nothing was measured for it",
             choice.tainted ? "; the machine was disturbed" : "");
  Table table({"candidate", "predicted ms", "measured ms", "why"});
  for (const Row& row : rows)
    table.add({row.text, row.predicted > 0 ? fmt::format("{:.3f}", row.predicted * 1e3) : "-",
               row.measured > 0 ? fmt::format("{:.3f}", row.measured * 1e3) : "-", row.why});
  table.print();
  fmt::print(
      "Among times within 1 % the simpler algorithm wins, then the better predicted, then text order.\n");
  print_phases(phases);
  return exit_done;
}

}  // namespace

void add_explain(CLI::App& program) {
  auto arguments = std::make_shared<Arguments>();
  CLI::App& command = add_command(program, "explain", "Show every candidate of a shape, and why the pick won",
                                  [arguments](bool json) { return run(*arguments, json); });
  command.add_option("shape", arguments->shape, "A shape, such as n1c128h56w56k31")->required();
  add_threads_option(command, arguments->threads);
  command
      .add_option("--budget", arguments->budget, "Seconds for measuring what is not remembered (default: 4)")
      ->check(CLI::Range(0.01, 86400.0))
      ->type_name("SECONDS");
  command.add_flag("--again", arguments->again, "Measure it even where it is remembered");
  add_pass_option(command, arguments->pass);
  add_cold_option(command, arguments->cold);
}

}  // namespace replk::cli
