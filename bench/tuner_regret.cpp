// How far the tuner's picks are from the best: for each shape, every tiling that the algorithms can name is
// raced (the exhaustive search, not the few that the tuner hears of), the tuner picks from nothing, some
// times over, and the analytic choice picks without measuring; then the picks race each other, and their
// times are given over the fastest's.
#include <fmt/format.h>
#include <time.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>
#include <map>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "bench/options.hpp"
#include "bench/shapes.hpp"
#include "core/clock.hpp"
#include "depthwise/choose/choice.hpp"

namespace {

using namespace replk;
using Json = nlohmann::ordered_json;

double processor_seconds() {
  timespec time;
  ::clock_gettime(CLOCK_THREAD_CPUTIME_ID, &time);
  return static_cast<double>(time.tv_sec) + 1e-9 * static_cast<double>(time.tv_nsec);
}

struct Means {
  double log_sum = 0, worst = 1;
  int count = 0;
  void add(double ratio) {
    log_sum += std::log(ratio);
    worst = std::max(worst, ratio);
    count++;
  }
  double geometric() const { return count == 0 ? 1 : std::exp(log_sum / count); }
};

struct Row {
  std::string shape, best, tuned, analytic;
  double ms = 0;                            // of the best
  std::size_t candidates = 0, untried = 0;  // of the exhaustive search; untried: its budget ended before
  double tuned_ratio = 1, analytic_ratio = 1, tune_seconds = 0;
  int repeats = 0, agreeing = 0;  // tunings whose pick is the commonest one, or within 2 % of its time
};

/// With the candidates predicted once.
tuner::Question ask(const depthwise::Request& request, depthwise::Breadth breadth) {
  tuner::Question question = depthwise::question(request, {}, breadth);
  question.candidates = [all = question.candidates()] { return all; };
  return question;
}

/// On one thread the processor's time is the thread's own, whatever else the machine does.
tuner::Clock clock_of(int threads) {
  tuner::Clock clock = tuner::system_clock();
  if (threads == 1) {
    clock.now = processor_seconds;
    clock.lost = [] { return 0.0; };
  }
  return clock;
}

double middle(std::vector<double> three) {
  std::sort(three.begin(), three.end());
  return three[1];
}

/// What the picks cost beside each other.
struct Final {
  std::map<std::string, double> ratio;                                        // of each to a race's fastest
  double least_ratio = std::numeric_limits<double>::infinity(), seconds = 0;  // of the fastest
};

/// Three finals, each on data and weights of its own: where these come to lie in the caches moves a time by
/// some percent, for each candidate another way. The middle one counts.
Final race_picks(const depthwise::Request& request, std::vector<std::string> picks, double budget,
                 const tuner::Clock& clock) {
  std::sort(picks.begin(), picks.end());
  picks.erase(std::unique(picks.begin(), picks.end()), picks.end());
  std::vector<tuner::Candidate> finalists;
  for (const std::string& pick : picks) finalists.push_back({pick, 1, 0});
  std::map<std::string, std::vector<double>> ratios;
  std::vector<double> seconds;
  for (int final = 0; final < 3; final++) {
    tuner::RaceOptions options;
    options.budget_seconds = budget / 3;
    options.seed = static_cast<std::uint64_t>(final) + 1;
    options.clock = clock;
    const tuner::RaceResult result =
        tuner::race(finalists, ask(request, depthwise::Breadth::likely).runner, options);
    for (std::size_t i = 0; i < picks.size(); i++) ratios[picks[i]].push_back(result.standings[i].ratio);
    seconds.push_back(result.standings[result.winner].seconds);
  }
  Final all;
  for (const auto& [text, three] : ratios) {
    all.ratio[text] = middle(three);
    all.least_ratio = std::min(all.least_ratio, all.ratio[text]);
  }
  all.seconds = middle(seconds);
  return all;
}

/// How many of the tunings picked the commonest one, or what takes its time within 2 %.
int count_agreeing(const std::vector<std::string>& tunings, const Final& final) {
  const std::string commonest = *std::max_element(tunings.begin(), tunings.end(), [&](auto& a, auto& b) {
    return std::count(tunings.begin(), tunings.end(), a) < std::count(tunings.begin(), tunings.end(), b);
  });
  int agreeing = 0;
  for (const std::string& pick : tunings) {
    const double apart = final.ratio.at(pick) / final.ratio.at(commonest);
    agreeing += pick == commonest || (apart < 1.02 && apart > 1 / 1.02);
  }
  return agreeing;
}

Row measure(const std::string& shape, int threads, int repeats, double budget) {
  const depthwise::Request request(depthwise::parse(shape), depthwise::Pass::forward,
                                   depthwise::plan_features({}), threads);
  const tuner::Question question = ask(request, depthwise::Breadth::likely),
                        whole = ask(request, depthwise::Breadth::all);
  tuner::Cache nothing({}, {}, "not stored");
  const tuner::Clock clock = clock_of(threads);
  Row row;
  row.shape = shape;

  tuner::Settings settings;
  settings.mode = tuner::Mode::off;
  row.analytic = tuner::choose(question, settings, nothing).text;
  std::vector<std::string> tunings;
  for (int i = 0; i < repeats; i++) {
    const double start = core::seconds();
    tunings.push_back(tuner::race_only(question, settings, nothing, clock).text);
    row.tune_seconds += (core::seconds() - start) / repeats;
  }
  row.tuned = tunings.front();
  settings.shortlist = SIZE_MAX;
  settings.budget_seconds = budget;
  const tuner::Choice exhaustive = tuner::race_only(whole, settings, nothing, clock);
  row.best = exhaustive.text;
  row.candidates = exhaustive.raced.size();
  row.untried = static_cast<std::size_t>(
      std::count_if(exhaustive.standings.begin(), exhaustive.standings.end(),
                    [](const tuner::Standing& s) { return s.fate == tuner::Standing::untried; }));

  std::vector<std::string> picks = tunings;
  picks.push_back(row.analytic);
  picks.push_back(row.best);
  const Final final = race_picks(request, picks, budget, clock);
  row.ms = final.seconds * 1e3;
  row.tuned_ratio = final.ratio.at(row.tuned) / final.least_ratio;
  row.analytic_ratio = final.ratio.at(row.analytic) / final.least_ratio;
  row.repeats = repeats;
  row.agreeing = count_agreeing(tunings, final);
  return row;
}

Json row_json(const Row& row) {
  return {{"shape", row.shape},
          {"ms", row.ms},
          {"candidates", row.candidates},
          {"untried", row.untried},
          {"best", row.best},
          {"tuned", row.tuned},
          {"tuned_ratio", row.tuned_ratio},
          {"analytic", row.analytic},
          {"analytic_ratio", row.analytic_ratio},
          {"tune_seconds", row.tune_seconds},
          {"tunings", row.repeats},
          {"agreeing", row.agreeing}};
}

void print(const Row& row) {
  fmt::print(
      "{:32} {:8.3f} ms of {:3} ({} untried)  tuned {:.3f} ({:.1f} s)  analytic {:.3f}  same {}/{}\n    "
      "best {}\n    "
      "analytic {}\n",
      row.shape, row.ms, row.candidates, row.untried, row.tuned_ratio, row.tune_seconds, row.analytic_ratio,
      row.agreeing, row.repeats, row.best, row.analytic);
  std::fflush(stdout);
}

}  // namespace

int main(int argc, char** argv) {
  CLI::App app("How far the tuner's and the analytic picks are from the best of all candidates");
  std::vector<std::string> shapes;
  int repeats = 1;
  std::size_t first = 0, count = SIZE_MAX;
  double budget = 60;
  bench::Options options;
  app.add_option("shape", shapes, "Shapes (default: the 40 of the tuner's figures)");
  app.add_option("--repeat", repeats, "Tunings from nothing")->check(CLI::Range(1, 100));
  app.add_option("--first", first, "The first shape to measure, from 0");
  app.add_option("--count", count, "How many");
  app.add_option("--budget", budget, "Most seconds of the exhaustive search and of the final of each shape");
  bench::add_options(app, options);
  CLI11_PARSE(app, argc, argv);
  if (shapes.empty()) shapes = bench::tuning_shapes();

  Means tuned, analytic;
  int repeated = 0, agreeing = 0;
  Json rows = Json::array();
  for (std::size_t i = first; i < shapes.size() && i - first < count; i++) {
    const Row row = measure(shapes[i], options.threads, repeats, budget);
    tuned.add(row.tuned_ratio);
    analytic.add(row.analytic_ratio);
    repeated += row.repeats;
    agreeing += row.agreeing;
    rows.push_back(row_json(row));
    if (!options.json) print(row);
  }
  if (options.json) {
    fmt::print("{}\n", Json({{"threads", options.threads},
                             {"rows", rows},
                             {"tuned_geometric_mean", tuned.geometric()},
                             {"tuned_worst", tuned.worst},
                             {"analytic_geometric_mean", analytic.geometric()},
                             {"analytic_worst", analytic.worst},
                             {"tunings", repeated},
                             {"agreeing", agreeing}})
                           .dump(2));
  } else {
    fmt::print(
        "{} shapes: tuned {:.3f} (worst {:.3f}), analytic {:.3f} (worst {:.3f}) times the best; {} of {} "
        "tunings agree\n",
        tuned.count, tuned.geometric(), tuned.worst, analytic.geometric(), analytic.worst, agreeing,
        repeated);
  }
  return 0;
}
