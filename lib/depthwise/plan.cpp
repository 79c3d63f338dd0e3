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
  const Kernel kernel = merge(problem, weights, bias);  // validates
  const Isa isa = plan_isa(options);
  Choice choice = choose(problem, kernel, options, isa, threads_);
  executor_ = choice.algorithm->prepare(problem, kernel, choice.tiling, isa, threads_);
  tiling_ = choice.spelled(threads_);
  threads_ = choice.threads;
  source_ = std::move(choice.source);
}

std::size_t Plan::workspace_bytes() const {
  return executor_->workspace_bytes(threads_);
}

void Plan::run(const Tensors& tensors, void* workspace) const {
  if (!tensors.src || !tensors.dst)
    core::fail(core::Status::invalid_argument, "{} is null; allowed: a tensor", tensors.src ? "dst" : "src");
  if (problem_.epilogue.residual && !tensors.residual)
    core::fail(core::Status::invalid_argument, "residual is null; allowed: a tensor, since {} adds one",
               to_string(problem_));
  executor_->run(tensors, workspace, std::min(core::effective_threads(threads_), threads_));
}

void Plan::run(const Tensors& tensors) const {
  thread_local core::Buffer<std::byte> workspace;
  const std::size_t needed = workspace_bytes();
  if (workspace.size() < needed) workspace = core::Buffer<std::byte>(needed);
  run(tensors, workspace.data());
}

}  // namespace replk::depthwise
