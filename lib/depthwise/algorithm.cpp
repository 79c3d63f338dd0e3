#include "depthwise/algorithm.hpp"

#include <algorithm>

namespace replk::depthwise {

std::vector<Candidate> Algorithm::candidates(const Problem& problem, const Kernel& geometry, Isa isa,
                                             int threads, std::size_t most) const {
  std::vector<Candidate> all = every_candidate(problem, geometry, isa, threads);
  std::stable_sort(all.begin(), all.end(), [](const Candidate& a, const Candidate& b) {
    return a.predicted_seconds < b.predicted_seconds;
  });
  keep_best(all, most);
  return all;
}

void Algorithm::keep_best(std::vector<Candidate>& sorted, std::size_t most) const {
  if (sorted.size() > most) sorted.resize(most);
}

}  // namespace replk::depthwise
