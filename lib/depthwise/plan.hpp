// A problem, prepared: the front of the depthwise box.
#pragma once
#include <cstddef>
#include <cstdint>
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
  bool cold = false;                     // a network's: the pick is one that was raced as it meets it
  bool turned = false;                   // take each kernel that is given turned by 180 degrees
  /// With `turned`, where neither tiling nor algorithm is asked for: a plan of the same weights, not turned.
  /// What it has packed serves this one too where that is possible, as shares_weights() says.
  const class Plan* layer = nullptr;
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
  /// Where the choice came from: analytic, forced, cache, measured, near(...), or layer, where weights are
  /// shared.
  const std::string& source() const { return source_; }
  int threads() const { return threads_; }
  const Executor& executor() const { return *executor_; }

  /// Other weights and bias (sizes as at first), packed as those at first were: the plan is then as one that
  /// was made with them. Allocates nothing, and needs the plan to itself. Throws invalid_argument where a
  /// size is wrong, and the old ones stay. Where weights are shared, the layer's are set first, and this
  /// takes them; a run in between, or a second call, throws invalid_argument.
  void set_weights(std::span<const std::span<const float>> weights, std::span<const float> bias);

  /// Whether it reads the packed weights of options.layer, which it keeps alive.
  bool shares_weights() const { return shares_weights_; }

  /// Bytes that this plan holds: packed weights, generated code, and what a rescue would need.
  std::size_t prepared_bytes() const;
  /// Of any batch.
  std::size_t workspace_bytes() const { return workspace_bytes_; }
  /// Allocates nothing, once a thread that brings no workspace has one.
  void run(const Tensors& tensors, const PlanRun& options = {}) const;
  void run(const Tensors& tensors, void* workspace) const { run(tensors, {.workspace = workspace}); }

 private:
  bool share(const Request& request, const Plan& layer);
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
  std::shared_ptr<Executor> executor_;
  std::shared_ptr<Rescue> rescue_;  // of class fast
  bool shares_weights_ = false;
  /// How often the packed weights have been set, counted by the layer, and at this plan's last set_weights().
  std::shared_ptr<std::uint64_t> times_set_ = std::make_shared<std::uint64_t>(0);
  std::uint64_t times_seen_ = 0;
};

}  // namespace replk::depthwise
