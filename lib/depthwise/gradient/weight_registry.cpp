#include <algorithm>

#include "depthwise/gradient/weight_algorithm.hpp"
#include "depthwise/gradient/weight_direct.hpp"
#include "depthwise/gradient/weight_portable.hpp"
#include "depthwise/gradient/weight_row_spectral.hpp"

namespace replk::depthwise {

const std::vector<const WeightAlgorithm*>& weight_algorithms() {
  // clang-format off
  static const std::vector<const WeightAlgorithm*> all{
      &portable_weight_algorithm(),
      &direct_weight_algorithm(),
      &row_spectral_weight_algorithm(),
  };
  // clang-format on
  return all;
}

const WeightAlgorithm* find_weight_algorithm(std::string_view name) {
  for (const WeightAlgorithm* algorithm : weight_algorithms())
    if (algorithm->name() == name) return algorithm;
  return nullptr;
}

std::vector<Candidate> WeightAlgorithm::candidates(const Problem& problem, const Kernel& geometry, Isa isa,
                                                   int threads, std::size_t most) const {
  std::vector<Candidate> all = every_candidate(problem, geometry, isa, threads);
  std::stable_sort(all.begin(), all.end(), [](const Candidate& a, const Candidate& b) {
    return a.predicted_seconds < b.predicted_seconds;
  });
  if (all.size() > most) all.resize(most);
  return all;
}

}  // namespace replk::depthwise
