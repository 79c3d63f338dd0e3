#include "depthwise/gradient/weight_choice.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <vector>

#include "core/error.hpp"

namespace replk::depthwise {

using core::fail;
using core::Status;

namespace {

bool in_class(const WeightAlgorithm& algorithm, const Problem& problem) {
  return algorithm.exact() || problem.numerics == Numerics::fast;
}

}  // namespace

Tiling WeightChoice::spelled(int all_threads) const {
  Tiling whole = tiling;
  if (threads != all_threads) whole.set("threads", threads);
  return whole;
}

std::optional<WeightChoice> read_weight_choice(std::string_view line, const Problem& problem,
                                               const Kernel& geometry, Isa isa, int threads) try {
  WeightChoice choice;
  choice.tiling = Tiling::parse(line);
  choice.algorithm = find_weight_algorithm(choice.tiling.algorithm);
  choice.threads = threads;
  if (!choice.tiling.word("threads").empty()) {
    choice.threads = choice.tiling.number("threads", 0);
    if (choice.threads < 1 || choice.threads > threads) return std::nullopt;
    std::erase_if(choice.tiling.fields, [](const auto& field) { return field.first == "threads"; });
  }
  if (!choice.algorithm || !in_class(*choice.algorithm, problem) ||
      !choice.algorithm->legal(problem, geometry, choice.tiling, isa))
    return std::nullopt;
  return choice;
} catch (const core::Error&) {  // not a tiling at all
  return std::nullopt;
}

WeightChoice choose_weight(const Problem& problem, const Kernel& kernel, const PlanOptions& options, Isa isa,
                           int threads) {
  const auto named = [&](const std::string& line, const std::string& source) {
    std::optional<WeightChoice> choice = read_weight_choice(line, problem, kernel, isa, threads);
    if (!choice)
      fail(Status::invalid_argument, "tiling '{}' cannot compute the weight gradient of {} on {}", line,
           to_string(problem), name(isa));
    choice->source = source;
    return *std::move(choice);
  };
  if (options.tiling) return named(options.tiling->to_string(), "forced");
  if (options.algorithm && !find_weight_algorithm(*options.algorithm))
    fail(Status::invalid_argument, "algorithm '{}' of weight gradients does not exist", *options.algorithm);
  std::optional<Candidate> best;
  for (const WeightAlgorithm* a : weight_algorithms()) {
    if (!in_class(*a, problem) || (options.algorithm && a->name() != *options.algorithm)) continue;
    for (Candidate& each : a->candidates(problem, kernel, isa, threads, 1))
      if (!best || each.predicted_seconds < best->predicted_seconds) best = std::move(each);
  }
  if (!best)
    fail(Status::invalid_argument, "algorithm '{}' cannot compute the weight gradient of {} on {}",
         options.algorithm.value_or("any"), to_string(problem), name(isa));
  return named(best->tiling.to_string(), "analytic");
}

}  // namespace replk::depthwise
