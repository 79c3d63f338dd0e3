// Which candidate a plan uses: the one place where the tuner meets the algorithms.
#pragma once
#include <functional>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "depthwise/algorithm.hpp"
#include "depthwise/plan.hpp"
#include "tuner/tuner.hpp"

namespace replk::depthwise {

struct Choice {
  const Algorithm* algorithm = nullptr;
  Tiling tiling;       // as the algorithm takes it
  int threads = 1;     // to run with: those of the plan, or fewer where the work is too small for all
  std::string source;  // as Plan::source()

  /// The tiling as it is stored and printed: with `threads=N` where N is not all.
  Tiling spelled(int all_threads) const;
};

/// The instruction set a plan is made for: what options ask, at most what the machine has, portable where
/// code cannot be generated.
Isa plan_isa(const PlanOptions& options);

/// Throws invalid_argument where a forced tiling or algorithm cannot compute the problem.
Choice choose(const Problem& problem, const Kernel& kernel, const PlanOptions& options, Isa isa, int threads);

/// The tiling a line names, if it can compute the problem; trusts nothing. The source stays empty.
std::optional<Choice> read_choice(std::string_view line, const Problem& problem, const Kernel& geometry,
                                  Isa isa, int threads);

/// How many candidates a question has: the best predicted of each algorithm, or all there are, for a search
/// that leaves out nothing.
enum class Breadth { likely, all };

/// What the tuner is asked about a problem; `algorithm` restricts it to one. The key's shape is
/// to_string(problem).
tuner::Question question(const Problem& problem, const std::optional<std::string>& algorithm, Isa isa,
                         int threads, Breadth breadth = Breadth::likely);

}  // namespace replk::depthwise
