// Which candidate a weight gradient uses.
#pragma once
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "depthwise/choose/choice.hpp"
#include "depthwise/gradient/weight_algorithm.hpp"
#include "depthwise/plan.hpp"
#include "tuner/tuner.hpp"

namespace replk::depthwise {

struct WeightChoice {
  const WeightAlgorithm* algorithm = nullptr;
  Tiling tiling;       // as the algorithm takes it
  int threads = 1;     // to run with: those of the plan, or fewer where the work is too small for all
  std::string source;  // as Plan::source()

  /// The tiling as it is stored and printed: with `threads=N` where N is not all.
  Tiling spelled(int all_threads) const;
};

/// Throws invalid_argument where a forced tiling or algorithm cannot compute the problem.
WeightChoice choose_weight(const Problem& problem, const Kernel& kernel, const PlanOptions& options, Isa isa,
                           int threads);

/// The tiling that a text spells, if it can compute the problem; trusts nothing. The source stays empty.
std::optional<WeightChoice> read_weight_choice(std::string_view text, const Problem& problem,
                                               const Kernel& geometry, Isa isa, int threads);

/// What its key has of algorithms: the forward pass's too, whose kernels and windows some of these use.
std::vector<KeyPart> weight_key_parts();

/// What the tuner is asked; `algorithm` restricts it to one. Throws invalid_argument as check_gradient()
/// does.
tuner::Question weight_question(const Request& request, const std::optional<std::string>& algorithm);

}  // namespace replk::depthwise
