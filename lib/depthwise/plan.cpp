#include "depthwise/plan.hpp"

#include "core/error.hpp"
#include "core/memory.hpp"
#include "core/threads.hpp"
#include "depthwise/choice.hpp"

namespace replk::depthwise {

Plan::Plan(const Problem& problem, std::span<const std::span<const float>> weights,
           std::span<const float> bias, const PlanOptions& options)
    : problem_(problem) {
  if (options.threads < 0 || options.threads > 1024)
    core::fail(core::Status::invalid_argument, "threads is {}; allowed: 0 to 1024", options.threads);
  threads_ = options.threads > 0 ? options.threads : core::default_threads();
  validate(problem);
  const Weights checked(problem, weights, bias, options.scale);
  if (problem.epilogue.scale && options.scale.empty())
    core::fail(core::Status::invalid_argument,
               "scale is absent; allowed: one value a channel, since {} has one", to_string(problem));
  const Kernel kernel = merged_geometry(problem);
  const Isa isa = plan_isa(options);
  Choice choice = choose(problem, kernel, options, isa, threads_);
  executor_ = choice.algorithm->prepare(problem, kernel, choice.tiling, isa);
  tiling_ = choice.spelled(threads_);
  threads_ = choice.threads;
  source_ = std::move(choice.source);
  scale_.assign(options.scale.begin(), options.scale.end());
  executor_->set_weights(checked, threads_);
}

void Plan::set_weights(std::span<const std::span<const float>> weights, std::span<const float> bias) {
  executor_->set_weights(Weights(problem_, weights, bias, scale_), threads_);
}

std::size_t Plan::workspace_bytes() const {
  return executor_->workspace_bytes(threads_);
}

void Plan::run(const Tensors& tensors, const PlanRun& options) const {
  if (!tensors.src || !tensors.dst)
    core::fail(core::Status::invalid_argument, "{} is null; allowed: a tensor", tensors.src ? "dst" : "src");
  if (problem_.epilogue.residual && !tensors.residual)
    core::fail(core::Status::invalid_argument, "residual is null; allowed: a tensor, since {} adds one",
               to_string(problem_));
  const std::int64_t batch = options.batch != 0 ? options.batch : problem_.batch;
  if (batch != problem_.batch) validate_batch(problem_, batch);
  void* workspace = options.workspace;
  if (!workspace) {
    thread_local core::Buffer<std::byte> kept;
    const std::size_t needed = workspace_bytes();
    if (kept.size() < needed) kept = core::Buffer<std::byte>(needed);
    workspace = kept.data();
  }
  executor_->run(tensors, {batch, workspace, std::min(core::effective_threads(threads_), threads_)});
}

}  // namespace replk::depthwise
