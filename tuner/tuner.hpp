// Candidates in, choice out. Knows no convolution: it can be tested with invented costs.
#pragma once
#include <cstddef>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "tuner/cache.hpp"
#include "tuner/key.hpp"
#include "tuner/race.hpp"

namespace replk::tuner {

/// off: the best predicted one. cached: what was measured before for this key, else for a near one, else the
/// best predicted one. now: what was measured before for this key, else a race, which is then remembered.
enum class Mode { off, cached, now };

struct Progress {
  std::string shape, leader;
  double seconds = 0;    // the leader's
  int rounds = 0;        // run so far
  std::size_t left = 0;  // candidates still in the race
};

/// What REPLK_TUNING says; nothing where it is unset, empty or none of the three words.
std::optional<Mode> mode_of_environment();

/// How this process tunes. The defaults come from the environment: REPLK_TUNING=off|cached|now.
struct Settings {
  Mode mode = Mode::cached;
  double budget_seconds = kBudgetSeconds;
  std::size_t shortlist = 16;  // best predicted candidates that may be measured
  bool again = false;          // mode now measures what is in the cache too
  std::function<void(const Progress&)> progress;
};
Settings settings();
/// For the whole process; thread-safe.
void set_settings(Settings settings);
/// Changes some of them and leaves the others as they are just then; as thread-safe.
void change_settings(const std::function<void(Settings&)>& change);
/// Mode now for the whole process, unless REPLK_TUNING says otherwise: for programs that measure speed.
void tune_unless_set();

struct Choice {
  std::string text;       // the pick; from the cache it need not be among the candidates
  std::string source;     // analytic, cache, measured, near(SHAPE)
  double seconds = 0;     // measured median of the pick; 0 if it was never measured for this key
  double confidence = 0;  // 0..1, how sure the race is that no candidate is more than 1 % faster
  bool tainted = false;   // the machine was disturbed while it measured
  // Of a race that was run just now: the candidates that were in it and what became of them.
  std::vector<Candidate> raced;
  std::vector<Standing> standings;
};

/// What is to be chosen, with everything the tuner may ask about it.
struct Question {
  Key key;
  std::function<std::vector<Candidate>()> candidates;  // asked only where the cache has no answer
  std::function<bool(const std::string& text)>
      legal;      // judges what comes from a cache; trusts nothing, never throws
  Runner runner;  // called only where a race is run
  /// Another key, whose records count as near ones.
  std::optional<Key> kin = {};
};

/// Picks one of the candidates (throws unsupported where there are none). Races of one process take turns,
/// and who asks for a key that is being raced finds it in the cache. Thread-safe.
Choice choose(const Question& question, const Settings& settings, Cache& cache,
              const Clock& clock = system_clock());
/// The same with the settings and the cache of this process.
Choice choose(const Question& question);

/// A race among the candidates whatever the cache knows, without remembering it; near picks of `cache` join
/// it.
Choice race_only(const Question& question, const Settings& settings, Cache& cache,
                 const Clock& clock = system_clock());

/// Cheapest by prediction; among equals the lower rank, then text order.
std::size_t best_predicted(const std::vector<Candidate>& candidates);

/// The candidates worth measuring, in the order in which to try them: the picks of the nearest tuned keys (or
/// what has most in common with them), then the best few of every algorithm (first word) that is predicted
/// within 1.5x, in turns, then the best predicted of all, then the best of every other algorithm within 4x.
std::vector<Candidate> shortlist(const std::vector<Candidate>& candidates,
                                 const std::vector<std::string>& near_picks,
                                 const std::function<bool(const std::string& text)>& legal, std::size_t most);

}  // namespace replk::tuner
