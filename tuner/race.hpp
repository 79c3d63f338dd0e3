// Which of several candidates is fastest, on a machine that is not quiet.
#pragma once
#include <cstddef>
#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "tuner/clock.hpp"

namespace replk::tuner {

struct Candidate {
  std::string text;              // the tiling, spelled: stored as it is
  double predicted_seconds = 0;  // orders the candidates
  int rank = 0;                  // among times within 1 %, the lower rank wins
};

/// How a candidate is run. The race calls them from one thread, and never times what verify() has not
/// accepted. An exception counts as "not this one".
struct Runner {
  std::function<bool(const std::string& text)>
      verify;                                        // prepares it and compares its result with the reference
  std::function<void(const std::string& text)> run;  // one run
  std::function<void(const std::string& text)> release;  // it is out: free what it holds
  std::function<void()> move = nullptr;  // data and what is prepared go to other memory; null: they cannot
  /// Brings the caches into the state that a run is to find; called before each run, and not timed. Null: a
  /// run finds what the one before has left, and is warm.
  std::function<void(const std::string& text)> before = nullptr;
};

constexpr double kBudgetSeconds = 4;  // of one choice

struct RaceOptions {
  double budget_seconds = kBudgetSeconds;
  std::uint64_t seed = 1;  // of the order within a round
  int most_rounds = 25;
  std::size_t field = 16;  // more candidates than this are thinned by a qualifying run each
  Clock clock = system_clock();
  /// Told after every candidate that was tried and after every round: rounds run, candidates in the race, the
  /// leader and its seconds.
  std::function<void(int rounds, std::size_t left, const std::string& leader, double seconds)> progress;
};

/// What became of one candidate.
struct Standing {
  enum Fate { untried, wrong, unqualified, slower, tied, won } fate = untried;
  int rounds = 0;      // in which it was timed
  double seconds = 0;  // median; 0 if never timed
  double ratio =
      0;  // median of its time over the winner's in the same round, else of what was timed; 0: never timed
};
const char* name(Standing::Fate fate);

struct RaceResult {
  bool decided = false;  // false: nothing could be timed, and winner means nothing
  std::size_t winner = 0;
  std::vector<Standing> standings;  // one a candidate
  int rounds = 0;
  double confidence =
      0;  // how sure it is that no candidate left at the end is more than 1 % faster than the winner
  bool tainted = false;  // most rounds were disturbed, repeats included
};

/// Candidates come best first: in this order they qualify, and in this order the first round runs, so that a
/// budget that ends early has seen the best predicted ones.
RaceResult race(const std::vector<Candidate>& candidates, const Runner& runner, const RaceOptions& options);

}  // namespace replk::tuner
