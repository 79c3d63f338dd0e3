#include "depthwise/gradient/weight_gradient.hpp"

#include <algorithm>
#include <utility>

#include "core/error.hpp"
#include "core/threads.hpp"
#include "depthwise/choose/choice.hpp"
#include "depthwise/gradient/check.hpp"
#include "depthwise/gradient/weight_algorithm.hpp"
#include "depthwise/gradient/weight_choice.hpp"
#include "depthwise/workspace.hpp"

namespace replk::depthwise {
namespace {

using core::fail;
using core::Status;

void check(const Problem& problem, const PlanOptions& options) {
  if (options.threads < 0 || options.threads > 1024)
    fail(Status::invalid_argument, "threads is {}; allowed: 0 to 1024", options.threads);
  validate(problem);
  check_gradient(problem);
}

}  // namespace

WeightGradient::WeightGradient(const Problem& problem, const PlanOptions& options) : problem_(problem) {
  check(problem, options);
  threads_ = options.threads > 0 ? options.threads : core::default_threads();
  const Kernel kernel = merged_geometry(problem);
  const Isa isa = isa_of(plan_features(options));
  WeightChoice choice = choose_weight(problem, kernel, options, isa, threads_);
  executor_ = choice.algorithm->prepare(problem, kernel, choice.tiling, isa);
  tiling_ = choice.spelled(threads_);
  threads_ = choice.threads;
  source_ = std::move(choice.source);
  workspace_bytes_ = executor_->workspace_bytes(threads_);
}

WeightGradient::~WeightGradient() = default;
WeightGradient::WeightGradient(WeightGradient&&) noexcept = default;
WeightGradient& WeightGradient::operator=(WeightGradient&&) noexcept = default;

std::size_t WeightGradient::prepared_bytes() const {
  return executor_->prepared_bytes();
}

void WeightGradient::run(const WeightGradientTensors& tensors, bool accumulate,
                         const PlanRun& options) const {
  if (!tensors.src || !tensors.dy)
    fail(Status::invalid_argument, "{} is null; allowed: a tensor", tensors.src ? "dy" : "src");
  if (tensors.dweights.size() != problem_.branches.size())
    fail(Status::invalid_argument, "dweights of {} branches; allowed: {}, one for each branch of {}",
         tensors.dweights.size(), problem_.branches.size(), to_string(problem_));
  const std::int64_t batch = options.batch != 0 ? options.batch : problem_.batch;
  if (batch != problem_.batch) validate_batch(problem_, batch);
  thread_local KeptWorkspace kept;
  void* const workspace = kept.given_or_kept(options.workspace, workspace_bytes_);
  executor_->run(tensors,
                 {batch, accumulate, workspace, std::min(core::effective_threads(threads_), threads_)});
}

}  // namespace replk::depthwise
