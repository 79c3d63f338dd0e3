#include "depthwise/plan.hpp"

#include <algorithm>
#include <cstring>

#include "core/error.hpp"
#include "core/memory.hpp"
#include "core/overflow.hpp"
#include "core/threads.hpp"
#include "depthwise/choice.hpp"

namespace replk::depthwise {

Plan::Plan(const Problem& problem, std::span<const std::span<const float>> weights,
           std::span<const float> bias, const PlanOptions& options)
    : problem_(problem) {
  if (options.threads < 0 || options.threads > 1024)
    core::fail(core::Status::invalid_argument, "threads is {}; allowed: 0 to 1024", options.threads);
  threads_ = options.threads > 0 ? options.threads : core::default_threads();
  Kernel kernel = merge(problem, weights, bias);  // validates
  const Isa isa = plan_isa(options);
  Choice choice = choose(problem, kernel, options, isa, threads_);
  executor_ = choice.algorithm->prepare(problem, kernel, choice.tiling, isa, threads_);
  tiling_ = choice.spelled(threads_);
  threads_ = choice.threads;
  source_ = std::move(choice.source);
  if (problem.numerics == Numerics::fast)
    rescue_ = std::make_unique<const Rescue>(problem, std::move(kernel));
}

std::size_t Plan::workspace_bytes() const {
  const std::size_t bytes = executor_->workspace_bytes(threads_);
  return rescue_ && problem_.epilogue.residual ? core::round_up(bytes, core::alignment) + residual_bytes()
                                               : bytes;
}

std::size_t Plan::residual_bytes() const {
  return static_cast<std::size_t>(problem_.output_elements()) * size_of(problem_.type);
}

std::size_t Plan::prepared_bytes() const {
  return executor_->prepared_bytes() + (rescue_ ? rescue_->bytes() : 0);
}

void Plan::run(const Tensors& tensors, void* workspace) const {
  if (!tensors.src || !tensors.dst)
    core::fail(core::Status::invalid_argument, "{} is null; allowed: a tensor", tensors.src ? "dst" : "src");
  if (problem_.epilogue.residual && !tensors.residual)
    core::fail(core::Status::invalid_argument, "residual is null; allowed: a tensor, since {} adds one",
               to_string(problem_));
  const int threads = std::min(core::effective_threads(threads_), threads_);
  if (!rescue_) return executor_->run(tensors, workspace, threads);
  const Tensors used = keep_residual(tensors, workspace, threads);
  const core::OverflowWatch watch;
  executor_->run(used, workspace, threads);
  if (watch.seen() || rescue_->always()) rescue_->run(used, threads);
}

/// Results overwrite a residual that is dst, and a rescue would find it gone: where one may come, it gets a
/// copy in the workspace.
Tensors Plan::keep_residual(const Tensors& tensors, void* workspace, int threads) const {
  Tensors used = tensors;
  if (!problem_.epilogue.residual || tensors.residual != tensors.dst) return used;
  if (!rescue_->may_be_needed(tensors.src, threads)) return used;
  void* const copy = static_cast<std::byte*>(workspace) +
                     core::round_up(executor_->workspace_bytes(threads_), core::alignment);
  std::memcpy(copy, tensors.residual, residual_bytes());
  used.residual = copy;
  return used;
}

void Plan::run(const Tensors& tensors) const {
  thread_local core::Buffer<std::byte> workspace;
  const std::size_t needed = workspace_bytes();
  if (workspace.size() < needed) workspace = core::Buffer<std::byte>(needed);
  run(tensors, workspace.data());
}

}  // namespace replk::depthwise
