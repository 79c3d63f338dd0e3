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
  std::span<const float> scale;          // [channels], of an epilogue that has one; copied
  bool turned = false;                   // take each kernel that is given turned by 180 degrees
};

/// How Plan::run is done; what is absent is as planned.
struct PlanRun {
  std::int64_t batch = 0;     // images; 0: the problem's
  void* workspace = nullptr;  // at least workspace_bytes(), 64-byte aligned, one a caller; null: one that is
                              // kept for each calling thread
};

/// Thread-safe once made. Weights are copied.
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

  /// Other weights and bias (sizes as at first), packed as those at first were: the plan is then as one that
  /// was made with them. Allocates nothing, and needs the plan to itself. Throws invalid_argument where a
  /// size is wrong, and the old ones stay.
  void set_weights(std::span<const std::span<const float>> weights, std::span<const float> bias);

  /// Bytes that this plan holds: packed weights, generated code, and what a rescue would need.
  std::size_t prepared_bytes() const;
  /// Of any batch.
  std::size_t workspace_bytes() const { return workspace_bytes_; }
  /// Allocates nothing, once a thread that brings no workspace has one.
  void run(const Tensors& tensors, const PlanRun& options = {}) const;
  void run(const Tensors& tensors, void* workspace) const { run(tensors, {.workspace = workspace}); }

 private:
  void run_rescued(const Tensors& tensors, const Run& run) const;
  Tensors image(const Tensors& tensors, std::int64_t index) const;
  void keep_residual(const Tensors& tensors, void* copy) const;

  Problem problem_;
  std::vector<float> scale_;
  bool turned_ = false;
  Tiling tiling_;
  std::string source_;
  int threads_ = 1;
  std::size_t workspace_bytes_ = 0, residual_offset_ = 0;
  std::unique_ptr<Executor> executor_;
  std::unique_ptr<Rescue> rescue_;  // of class fast
};

}  // namespace replk::depthwise
