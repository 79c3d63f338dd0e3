// Times of several candidates for the same work, taken so that they can be compared.
#pragma once
#include <cstdint>
#include <functional>
#include <vector>

namespace replk::bench {

struct RaceOptions {
  int rounds = 15;      // at least
  int max_rounds = 45;  // as many as fit in the seconds, up to this
  double seconds = 1.0;
  double slow = 3;  // a rival whose first run takes this many times ours has the turns that fit in half the
                    // seconds
  double warm_seconds = 1e-3;  // of untimed runs before a turn, one at least
  double slot_seconds = 3e-4;  // short runs are repeated for so long, and the mean of the slot counts
  std::uint64_t seed = 1;
};

struct Times {
  std::vector<double>
      seconds;  // one a round, in the order of the rounds; one alone where the candidate was slow
  double median() const;
};

/// Every round runs each candidate once, in an order drawn anew for each. Each turn is preceded by untimed
/// runs, so that all meet their own data in the caches, which learn from several runs what is worth keeping.
/// Candidate 0 is ours, the others are its rivals. `parts` says which rivals compute the same, where they do
/// not all do the whole of it: rivals of one part have one number. Their preceding first runs, timed, say
/// which are slow; of these, one that takes twice the time of the fastest of its part cannot be the best and
/// is timed that once.
std::vector<Times> race(const std::vector<std::function<void()>>& candidates, const RaceOptions& options = {},
                        const std::vector<int>& parts = {});

}  // namespace replk::bench
