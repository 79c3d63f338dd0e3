// How many threads the work of a layer feeds.
#pragma once
#include <functional>
#include <vector>

#include "tuner/tuner.hpp"

namespace replk::depthwise {

/// Of waking a team. It is the smallest useful task as well: no thread is woken for less work.
constexpr double team_seconds = 5e-6;

/// Of work that takes so many seconds on each thread, with what waking them takes.
constexpr double with_team(double seconds, int threads) {
  return seconds + (threads > 1 ? team_seconds : 0);
}

/// How many of so many threads are worth waking for work that takes one of them so many seconds: each gets a
/// smallest useful task at least. At least 1.
int useful_threads(int threads, double seconds_on_one);

/// Threads to try fewer of than all where the best candidate is predicted to take so many seconds. Empty
/// where the work is large.
std::vector<int> fewer_threads(int threads, double best_seconds);

/// The candidates of a question, spelled for all threads that were asked for, their seconds with_team().
struct TeamCandidates {
  std::vector<tuner::Candidate> all;
  int threads = 1;          // the most that any of them uses
  double best_seconds = 0;  // predicted; infinite where there is none
};
/// Candidates on so many threads: those worth racing, or few.
using CandidatesOn = std::function<std::vector<tuner::Candidate>(int threads, bool few)>;
/// On as many threads as are useful, and for small work a few on fewer.
TeamCandidates team_candidates(int threads, const CandidatesOn& on);

}  // namespace replk::depthwise
