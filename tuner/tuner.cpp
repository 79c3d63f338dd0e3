#include "tuner/tuner.hpp"

#include <algorithm>
#include <cstdlib>
#include <ctime>
#include <map>
#include <mutex>
#include <optional>
#include <set>
#include <sstream>
#include <string_view>
#include <tuple>
#include <utility>

#include "core/error.hpp"
#include "core/log.hpp"

namespace replk::tuner {
namespace {

constexpr double kNear = 1.0;  // a pick is taken over unmeasured from a key at most this far: a factor of two
constexpr std::size_t kNearPicks = 3;  // that join a race
constexpr double kOtherAlgorithm = 4;  // an algorithm predicted slower than this times the best is not tried
constexpr double kRival = 1.5;         // one predicted nearer than this is tried with more of its tilings,
constexpr std::size_t kRivals = 6;     // up to so many

std::string_view environment_text() {
  const char* value = std::getenv("REPLK_TUNING");
  return value ? value : "";
}

struct Shared {
  std::mutex mutex;
  Settings settings;
  Shared() {
    const std::string_view text = environment_text();
    const std::optional<Mode> mode = mode_of_environment();
    if (!text.empty() && !mode)
      core::log(core::LogLevel::warning, "REPLK_TUNING is '{}', not one of off, cached, now: ignored", text);
    settings.mode = mode.value_or(Mode::cached);
  }
};

Shared& shared() {
  static Shared* instance = new Shared;
  return *instance;
}

std::mutex& racing() {
  static std::mutex* instance = new std::mutex;
  return *instance;
}

std::string today() {
  const std::time_t now = std::time(nullptr);
  std::tm utc{};
  gmtime_r(&now, &utc);
  char text[32];
  std::strftime(text, sizeof text, "%Y-%m-%dT%H:%M:%SZ", &utc);
  return text;
}

bool predicted_before(const Candidate& a, const Candidate& b) {
  return std::tie(a.predicted_seconds, a.rank, a.text) < std::tie(b.predicted_seconds, b.rank, b.text);
}

std::string_view algorithm(const std::string& text) {
  return std::string_view(text).substr(0, text.find(' '));
}

std::set<std::string> words(const std::string& text) {
  std::istringstream stream(text);
  std::set<std::string> all;
  for (std::string word; stream >> word;) all.insert(word);
  return all;
}

std::size_t words_in_common(const std::set<std::string>& a, const std::string& text) {
  const std::set<std::string> b = words(text);
  return static_cast<std::size_t>(
      std::count_if(a.begin(), a.end(), [&](const std::string& w) { return b.count(w) > 0; }));
}

bool remembered(const Question& question, Cache& cache, Choice& choice) {
  for (const Record& record : cache.find(question.key)) {
    if (!question.legal(record.pick)) {
      core::warn_once("tune cache: illegal " + record.identity(),
                      "tune cache: the record of " + record.shape + " names '" + record.pick +
                          "', which cannot compute it: ignored");
      continue;
    }
    choice.text = record.pick;
    choice.source = "cache";
    choice.seconds = record.seconds;
    choice.confidence = record.confidence;
    choice.tainted = record.tainted;
    return true;
  }
  return false;
}

/// The nearest records, of its own key's neighbours and of its kin's.
std::vector<Cache::Near> nearest(const Question& question, Cache& cache) {
  std::vector<Cache::Near> all = cache.nearest(question.key, kNearPicks);
  if (!question.kin) return all;
  for (Record& each : cache.find(*question.kin)) all.push_back({std::move(each), 0});
  for (Cache::Near& each : cache.nearest(*question.kin, kNearPicks)) all.push_back(std::move(each));
  std::stable_sort(all.begin(), all.end(),
                   [](const auto& a, const auto& b) { return a.distance < b.distance; });
  if (all.size() > kNearPicks) all.resize(kNearPicks);
  return all;
}

std::vector<Candidate> candidates_of(const Question& question) {
  std::vector<Candidate> candidates = question.candidates();
  if (candidates.empty())
    core::fail(core::Status::unsupported, "nothing can compute {} on this machine", question.key.shape);
  return candidates;
}

Choice analytic(const std::vector<Candidate>& candidates) {
  Choice choice;
  choice.text = candidates[best_predicted(candidates)].text;
  choice.source = "analytic";
  return choice;
}

void remember(const Key& key, const Choice& choice, Cache& cache) {
  Record record;
  record.shape = key.shape;
  record.key = key.json();
  record.machine = machine_json();
  record.pick = choice.text;
  record.seconds = choice.seconds;
  record.confidence = choice.confidence;
  record.tainted = choice.tainted;
  record.date = today();
  std::vector<std::size_t> order;
  for (std::size_t i = 0; i < choice.raced.size(); i++) {
    if (choice.raced[i].text == choice.text)
      record.rounds = choice.standings[i].rounds;
    else if (choice.standings[i].seconds > 0)
      order.push_back(i);
  }
  std::sort(order.begin(), order.end(), [&](std::size_t a, std::size_t b) {
    return choice.standings[a].seconds < choice.standings[b].seconds;
  });
  for (std::size_t i : order) record.measured.emplace_back(choice.raced[i].text, choice.standings[i].seconds);
  cache.store(std::move(record));
}

}  // namespace

Choice race_only(const Question& question, const Settings& settings, Cache& cache, const Clock& clock) {
  const Key& key = question.key;
  std::vector<std::string> near;
  for (const Cache::Near& each : nearest(question, cache)) near.push_back(each.record.pick);
  Choice choice;
  const std::vector<Candidate> candidates = candidates_of(question);
  choice.raced = shortlist(candidates, near, question.legal, settings.shortlist);

  RaceOptions options;
  options.budget_seconds = settings.budget_seconds;
  options.clock = clock;
  if (settings.progress) {
    options.progress = [&](int rounds, std::size_t left, const std::string& leader, double seconds) {
      settings.progress({key.shape, leader, seconds, rounds, left});
    };
  }
  const RaceResult result = race(choice.raced, question.runner, options);
  choice.standings = result.standings;
  if (!result.decided) {
    Choice fallen_back = analytic(candidates);
    core::log(core::LogLevel::warning, "tuner: nothing could be measured for {}: '{}' by prediction",
              key.shape, fallen_back.text);
    return fallen_back;
  }
  choice.text = choice.raced[result.winner].text;
  choice.source = "measured";
  choice.seconds = result.standings[result.winner].seconds;
  choice.confidence = result.confidence;
  choice.tainted = result.tainted;
  return choice;
}

std::optional<Mode> mode_of_environment() {
  const std::string_view text = environment_text();
  if (text == "off") return Mode::off;
  if (text == "cached") return Mode::cached;
  if (text == "now") return Mode::now;
  return std::nullopt;
}

Settings settings() {
  Shared& s = shared();
  std::lock_guard lock(s.mutex);
  return s.settings;
}

void set_settings(Settings settings) {
  change_settings([&](Settings& own) { own = std::move(settings); });
}

void change_settings(const std::function<void(Settings&)>& change) {
  Shared& s = shared();
  std::lock_guard lock(s.mutex);
  change(s.settings);
}

void tune_unless_set() {
  if (mode_of_environment()) return;
  change_settings([](Settings& settings) { settings.mode = Mode::now; });
}

std::size_t best_predicted(const std::vector<Candidate>& candidates) {
  return static_cast<std::size_t>(std::min_element(candidates.begin(), candidates.end(), predicted_before) -
                                  candidates.begin());
}

std::vector<Candidate> shortlist(const std::vector<Candidate>& candidates,
                                 const std::vector<std::string>& near_picks,
                                 const std::function<bool(const std::string&)>& legal, std::size_t most) {
  std::vector<Candidate> sorted = candidates, list;
  std::sort(sorted.begin(), sorted.end(), predicted_before);
  std::set<std::string> taken;
  const auto take = [&](const Candidate& candidate) {
    if (taken.insert(candidate.text).second) list.push_back(candidate);
  };

  for (const std::string& pick : near_picks) {
    // A tiling often fits its own shape only: then the candidate that says most of the same words stands in
    // for it.
    const std::set<std::string> said = words(pick);
    const auto closest =
        std::max_element(sorted.begin(), sorted.end(), [&](const Candidate& a, const Candidate& b) {
          return words_in_common(said, a.text) < words_in_common(said, b.text);
        });
    if (closest != sorted.end() && (closest->text == pick || !legal(pick))) {
      if (algorithm(closest->text) == algorithm(pick)) take(*closest);
    } else if (closest != sorted.end()) {
      Candidate extra{pick, sorted.back().predicted_seconds, sorted.back().rank};
      for (const Candidate& each : sorted)
        if (algorithm(each.text) == algorithm(pick)) extra.rank = each.rank;
      take(extra);
    }
  }
  // A prediction orders the tilings of one algorithm better than it compares algorithms: these go in turns,
  // so that a budget that ends early has seen each of them.
  std::map<std::string_view, std::size_t> tilings;
  std::vector<std::pair<std::size_t, const Candidate*>> turns;
  std::vector<const Candidate*> others;
  for (const Candidate& each : sorted) {
    const double behind = each.predicted_seconds / sorted.front().predicted_seconds;
    const std::size_t turn = tilings[algorithm(each.text)]++;
    if (behind <= kRival && turn < std::min(kRivals, most))
      turns.emplace_back(turn, &each);
    else if (behind <= kOtherAlgorithm && turn == 0)
      others.push_back(&each);
  }
  std::stable_sort(turns.begin(), turns.end(),
                   [](const auto& a, const auto& b) { return a.first < b.first; });
  for (const auto& [turn, each] : turns) take(*each);
  for (std::size_t i = 0; i < sorted.size() && i < most; i++) take(sorted[i]);
  for (const Candidate* each : others) take(*each);
  return list;
}

Choice choose(const Question& question, const Settings& settings, Cache& cache, const Clock& clock) {
  if (settings.mode == Mode::off) return analytic(candidates_of(question));

  Choice choice;
  const bool look = settings.mode == Mode::cached || !settings.again;
  if (look && remembered(question, cache, choice)) return choice;
  if (settings.mode == Mode::now) {
    std::lock_guard lock(racing());  // two races at once would measure each other
    if (look && remembered(question, cache, choice)) return choice;
    choice = race_only(question, settings, cache, clock);
    if (choice.source == "measured") remember(question.key, choice, cache);
    return choice;
  }
  for (const Cache::Near& near : nearest(question, cache)) {
    if (near.distance > kNear || !question.legal(near.record.pick)) continue;
    choice.text = near.record.pick;
    choice.source = "near(" + near.record.shape + ")";
    return choice;
  }
  return analytic(candidates_of(question));
}

Choice choose(const Question& question) {
  return choose(question, settings(), process_cache());
}

}  // namespace replk::tuner
