// Which candidate a plan uses: the one place where the tuner meets the algorithms.
#pragma once
#include <string>

#include "depthwise/algorithm.hpp"
#include "depthwise/plan.hpp"

namespace replk::depthwise {

struct Choice {
  const Algorithm* algorithm = nullptr;
  Tiling tiling;
  std::string source;  // as Plan::source()
};

/// The instruction set a plan is made for: what options ask, at most what the machine has, portable where code cannot be
/// generated.
Isa plan_isa(const PlanOptions& options);

/// Throws invalid_argument where a forced tiling or algorithm cannot compute the problem.
Choice choose(const Problem& problem, const Kernel& kernel, const PlanOptions& options, Isa isa, int threads);

}  // namespace replk::depthwise
