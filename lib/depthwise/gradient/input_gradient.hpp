// The gradient of a layer's input, prepared: dx from dy and the weights.
#pragma once
#include <cstddef>
#include <memory>
#include <span>
#include <vector>

#include "core/memory.hpp"
#include "depthwise/gradient/assemble.hpp"
#include "depthwise/gradient/check.hpp"
#include "depthwise/gradient/turned.hpp"
#include "depthwise/plan.hpp"

namespace replk::depthwise {

/// The problems of the forward pass that an input gradient is made of: to be tuned as any.
std::vector<Problem> input_gradient_problems(const Problem& problem);

/// dx[n][i][x][c] = the sum of dy[n][oy][ox][o] * w[o][a][b] over the outputs o of channel c, outputs (oy,
/// ox) and taps (a, b) of all branches that meet pixel (i, x). dx has the layout, type and strides of the
/// problem's input, dy those of its output. Numerics as of a forward pass over dy. Thread-safe once made.
class InputGradient {
 public:
  /// weights as Plan's; copied. A problem's bias is without effect. options.tiling and algorithm force every
  /// convolution that this needs (stride 1: one). options.layer: a plan of the layer, with these weights;
  /// where what it has packed serves here too, it is shared.
  InputGradient(const Problem& problem, std::span<const std::span<const float>> weights,
                const PlanOptions& options = {});

  const Problem& problem() const { return problem_; }
  /// The plans that compute it, in the order of the classes of dx's pixels; none where no tap meets the map.
  std::span<const std::unique_ptr<Plan>> plans() const { return plans_; }
  int threads() const { return threads_; }

  /// As Plan's, after options.layer's: other weights of the same sizes. Allocates nothing, and needs this to
  /// itself.
  void set_weights(std::span<const std::span<const float>> weights);

  /// Bytes that this holds: packed and turned weights, and generated code.
  std::size_t prepared_bytes() const;
  /// Of any batch.
  std::size_t workspace_bytes() const { return workspace_bytes_; }
  /// dx must not overlap dy. Allocates nothing, once a thread that brings no workspace has one.
  void run(const void* dy, void* dx, const PlanRun& options = {}) const;

 private:
  void run_in_place(const std::byte* dy, std::byte* dx, std::int64_t batch, std::byte* workspace) const;
  void run_image(const std::byte* dy, std::byte* dx, std::byte* workspace) const;

  /// What a part's plan is given, a kernel a branch: the layer's own where it takes whole ones, else turned
  /// ones, which lie here.
  struct PartWeights {
    std::vector<core::Buffer<float>> turned;
    std::vector<float*> pointers;
    std::vector<std::span<const float>> kernels;
  };
  std::span<const std::span<const float>> part_weights(std::size_t part,
                                                       std::span<const std::span<const float>> weights);

  Problem problem_;
  std::vector<Part> parts_;
  Assembly assembly_;
  bool staged_ = false;  // results of an image go to the workspace first,
  bool wide_ = false;    // and are floats there, as is dy, whatever the problem's type
  int threads_ = 1;
  std::size_t workspace_bytes_ = 0, dy_offset_ = 0, results_offset_ = 0;  // the plans' workspace comes first
  std::vector<PartWeights> weights_;
  std::vector<std::unique_ptr<Plan>> plans_;
};

}  // namespace replk::depthwise
