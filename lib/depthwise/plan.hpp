// A problem, prepared: the front of the depthwise box.
#pragma once
#include <cstddef>
#include <memory>
#include <optional>
#include <span>
#include <string>

#include "depthwise/algorithm.hpp"
#include "depthwise/rescue.hpp"

namespace replk::depthwise {

struct PlanOptions {
  int threads = 0;                       // 0: all (core::default_threads)
  std::optional<Tiling> tiling;          // force this one (invalid_argument where it is not legal)
  std::optional<std::string> algorithm;  // or the best of this algorithm
  std::optional<Isa> isa;                // lower than the machine's, for tests
};

/// Immutable and thread-safe once made. Weights are copied.
class Plan {
 public:
  Plan(const Problem& problem, std::span<const std::span<const float>> weights, std::span<const float> bias,
       const PlanOptions& options = {});

  const Problem& problem() const { return problem_; }
  const Tiling& tiling() const { return tiling_; }
  /// Where the choice came from: analytic, forced, cache, measured, near(...).
  const std::string& source() const { return source_; }
  int threads() const { return threads_; }
  const Executor& executor() const { return *executor_; }

  std::size_t workspace_bytes() const;
  /// Bytes that this plan holds: packed weights, generated code, and what a rescue would need.
  std::size_t prepared_bytes() const;
  /// Allocates nothing. workspace: at least workspace_bytes(), 64-byte aligned, one a caller.
  void run(const Tensors& tensors, void* workspace) const;
  /// The same with a workspace kept for each calling thread.
  void run(const Tensors& tensors) const;

 private:
  std::size_t residual_bytes() const;
  Tensors keep_residual(const Tensors& tensors, void* workspace, int threads) const;

  Problem problem_;
  Tiling tiling_;
  std::string source_;
  int threads_ = 1;
  std::unique_ptr<Executor> executor_;
  std::unique_ptr<const Rescue> rescue_;  // of class fast
};

}  // namespace replk::depthwise
