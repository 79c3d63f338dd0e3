#include "depthwise/choose/team.hpp"

#include <algorithm>
#include <iterator>
#include <limits>

namespace replk::depthwise {
namespace {

double best_of(const std::vector<tuner::Candidate>& all) {
  double best = std::numeric_limits<double>::infinity();
  for (const tuner::Candidate& each : all) best = std::min(best, each.predicted_seconds);
  return best;
}

}  // namespace

int useful_threads(int threads, double seconds_on_one) {
  // A prediction may be infinite, and an int holds no more than the threads that are asked for.
  return static_cast<int>(std::clamp(seconds_on_one / team_seconds, 1.0, static_cast<double>(threads)));
}

std::vector<int> fewer_threads(int threads, double best_seconds) {
  constexpr double small_seconds = 500e-6;
  std::vector<int> all;
  for (int fewer = 1; best_seconds < small_seconds && fewer < threads; fewer *= 2) all.push_back(fewer);
  return all;
}

TeamCandidates team_candidates(int threads, const CandidatesOn& on) {
  TeamCandidates c{on(threads, false), threads, 0};
  c.best_seconds = best_of(c.all);
  // To predict costs time: one thread is asked about only where all of them may have too little to do.
  if (threads > 1 && c.best_seconds < with_team(team_seconds, threads)) {
    c.threads = useful_threads(threads, best_of(on(1, true)));
    if (c.threads < threads) c.all = on(c.threads, false);
    c.best_seconds = best_of(c.all);
  }
  for (const int fewer : fewer_threads(c.threads, c.best_seconds)) {
    std::vector<tuner::Candidate> few = on(fewer, true);
    c.best_seconds = std::min(c.best_seconds, best_of(few));
    std::ranges::move(few, std::back_inserter(c.all));
  }
  return c;
}

}  // namespace replk::depthwise
