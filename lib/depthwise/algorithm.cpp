#include "depthwise/algorithm.hpp"

#include <algorithm>

namespace replk::depthwise {

bool Algorithm::computes(const Request& request) const {
  return request.pass == pass() && (exact() || request.problem.numerics != Numerics::exact);
}

std::unique_ptr<Variant> Algorithm::read(const Request& request, const Tiling& tiling) const {
  return computes(request) && tiling.algorithm == name() ? read_fields(request, tiling) : nullptr;
}

std::vector<Candidate> Algorithm::candidates(const Request& request, std::size_t most) const {
  if (!computes(request)) return {};
  std::vector<Candidate> all = every_candidate(request);
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
