#include "depthwise/gradient/weight_choice.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <memory>
#include <utility>
#include <vector>

#include "core/error.hpp"
#include "depthwise/gradient/check.hpp"
#include "depthwise/gradient/weight_trial.hpp"

namespace replk::depthwise {

using core::fail;
using core::Status;

namespace {

constexpr std::size_t most_tilings = 24;  // of each algorithm

bool in_class(const WeightAlgorithm& algorithm, const Problem& problem) {
  return algorithm.exact() || problem.numerics != Numerics::exact;
}

}  // namespace

Tiling WeightChoice::spelled(int all_threads) const {
  Tiling whole = tiling;
  if (threads != all_threads) whole.set("threads", threads);
  return whole;
}

std::optional<WeightChoice> read_weight_choice(std::string_view text, const Problem& problem,
                                               const Kernel& geometry, Isa isa, int threads) try {
  WeightChoice choice;
  choice.tiling = Tiling::parse(text);
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

namespace {

/// The tilings of all algorithms (or of one) on as many threads as the work feeds, and for small work the
/// best of them on fewer.
std::vector<tuner::Candidate> candidates_of(const Problem& problem, const Kernel& geometry,
                                            const std::optional<std::string>& algorithm, Isa isa,
                                            int threads) {
  const auto on = [&](int used, bool few) {
    std::vector<tuner::Candidate> all;
    for (const WeightAlgorithm* a : weight_algorithms()) {
      if (!in_class(*a, problem) || (algorithm && a->name() != *algorithm)) continue;
      for (Candidate& each :
           a->candidates(problem, geometry, isa, used, few ? tilings_on_fewer : most_tilings)) {
        const WeightChoice choice{a, std::move(each.tiling), used, {}};
        all.push_back(
            {choice.spelled(threads).to_string(), with_team(each.predicted_seconds, used), a->complexity()});
      }
    }
    return all;
  };
  return team_candidates(threads, on).all;
}

}  // namespace

std::vector<KeyPart> weight_key_parts() {
  std::vector<KeyPart> parts = key_parts(algorithms());
  for (const KeyPart& each : key_parts(weight_algorithms())) parts.push_back(each);
  return parts;
}

tuner::Question weight_question(const Request& request, const std::optional<std::string>& algorithm) {
  check_gradient(request.problem);
  const Isa isa = request.isa();
  const int threads = request.threads;
  // The question outlives this call, and so must what its functions refer to.
  const auto asked = std::make_shared<const Request>(request);
  const auto trial = std::make_shared<WeightTrial>(request.problem, isa, threads);
  tuner::Question q;
  q.key = question_key(request, algorithm, weight_key_parts());
  q.candidates = [=, key = q.key] {
    return known_candidates(
        key, [&] { return candidates_of(asked->problem, asked->kernel, algorithm, isa, threads); });
  };
  q.legal = [=](const std::string& text) {
    return read_weight_choice(text, asked->problem, asked->kernel, isa, threads).has_value();
  };
  q.runner = {[trial](const std::string& text) { return trial->verify(text); },
              [trial](const std::string& text) { trial->run(text); },
              [trial](const std::string& text) { trial->release(text); }, [trial] { trial->move(); }};
  return q;
}

WeightChoice choose_weight(const Problem& problem, const Kernel& kernel, const PlanOptions& options, Isa isa,
                           int threads) {
  const auto named = [&](const std::string& text, const std::string& source) {
    std::optional<WeightChoice> choice = read_weight_choice(text, problem, kernel, isa, threads);
    if (!choice)
      fail(Status::invalid_argument, "tiling '{}' cannot compute the weight gradient of {} on {}", text,
           to_string(problem), name(isa));
    choice->source = source;
    return *std::move(choice);
  };
  if (options.tiling) return named(options.tiling->to_string(), "forced");
  if (options.algorithm && !find_weight_algorithm(*options.algorithm))
    fail(Status::invalid_argument, "algorithm '{}' of weight gradients does not exist", *options.algorithm);
  const tuner::Question q =
      weight_question({problem, Pass::weight_gradient, features_of(isa), threads}, options.algorithm);
  tuner::Choice pick;
  try {
    pick = tuner::choose(q);
  } catch (const core::Error& error) {
    if (error.status() != Status::unsupported) throw;
    fail(Status::invalid_argument, "algorithm '{}' cannot compute the weight gradient of {} on {}",
         options.algorithm.value_or("any"), to_string(problem), name(isa));
  }
  return named(pick.text, pick.source);
}

}  // namespace replk::depthwise
