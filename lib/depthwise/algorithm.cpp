#include "depthwise/algorithm.hpp"

#include <algorithm>

namespace replk::depthwise {

std::vector<Candidate> Algorithm::candidates(const Problem& problem, const Kernel& geometry, Isa isa,
                                             int threads, std::size_t most) const {
  std::vector<Candidate> all = every_candidate(problem, geometry, isa, threads);
  std::stable_sort(all.begin(), all.end(), [](const Candidate& a, const Candidate& b) {
    return a.predicted_seconds < b.predicted_seconds;
  });
  if (all.size() > most) all.resize(most);
  return all;
}

}  // namespace replk::depthwise
