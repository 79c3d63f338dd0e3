#include "depthwise/choice.hpp"

#include <algorithm>

#include "core/error.hpp"
#include "jit/code.hpp"

namespace replk::depthwise {

using core::fail;
using core::Status;

Isa plan_isa(const PlanOptions& options) {
  const Isa isa = std::min(options.isa.value_or(core::cpu().isa), core::cpu().hardware);
  return isa != Isa::portable && jit::code_allowed() ? isa : Isa::portable;
}

Choice choose(const Problem& problem, const Kernel& kernel, const PlanOptions& options, Isa isa, int threads) {
  const auto in_class = [&](const Algorithm& a) { return a.exact() || problem.numerics == Numerics::fast; };
  if (options.tiling) {
    const Algorithm* algorithm = find_algorithm(options.tiling->algorithm);
    if (!algorithm || !in_class(*algorithm) || !algorithm->legal(problem, kernel, *options.tiling, isa))
      fail(Status::invalid_argument, "tiling '{}' cannot compute {} on {}", options.tiling->to_string(),
           to_string(problem), name(isa));
    return {algorithm, *options.tiling, "forced"};
  }
  if (options.algorithm && !find_algorithm(*options.algorithm))
    fail(Status::invalid_argument, "algorithm '{}' does not exist", *options.algorithm);

  Choice best;
  double best_seconds = 0;
  for (const Algorithm* algorithm : algorithms()) {
    if (!in_class(*algorithm) || (options.algorithm && algorithm->name() != *options.algorithm)) continue;
    const std::vector<Candidate> candidates = algorithm->candidates(problem, kernel, isa, threads);
    if (candidates.empty()) continue;
    const Candidate& first = candidates.front();  // the best predicted
    if (!best.algorithm || first.predicted_seconds < best_seconds) {
      best = {algorithm, first.tiling, "analytic"};
      best_seconds = first.predicted_seconds;
    }
  }
  if (!best.algorithm)
    fail(Status::invalid_argument, "algorithm '{}' cannot compute {} on {}", options.algorithm.value_or("any"),
         to_string(problem), name(isa));
  return best;
}

}  // namespace replk::depthwise
