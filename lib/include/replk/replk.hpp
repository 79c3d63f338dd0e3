// libreplk_cpu in C++: resources that free themselves and errors that are thrown, header-only over the C API.
#pragma once
#include <memory>
#include <span>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

#include "replk/replk.h"

namespace replk {

class Error : public std::runtime_error {
 public:
  Error(replk_status status, const char* message) : std::runtime_error(message), status_(status) {}
  replk_status status() const noexcept { return status_; }

 private:
  replk_status status_;
};

inline void check(replk_status status) {
  if (status != REPLK_OK) throw Error(status, replk_last_error());
}

inline replk_cpu_info cpu_info() {
  replk_cpu_info info{};
  info.struct_size = sizeof(info);
  check(replk_get_cpu_info(&info));
  return info;
}

struct DepthwiseOptions {
  int threads = 0;        // 0: all
  std::string algorithm;  // empty: the tuner's choice
  std::string tiling;     // empty, or exactly this one
};

/// A prepared depthwise convolution. Movable; run() may be called from many threads at once.
class Depthwise {
 public:
  /// weights[i] is branch i's, [channels][kernel_h][kernel_w]; bias [channels], or empty. The sizes of the
  /// spans are checked.
  Depthwise(const replk_depthwise_problem& problem, std::span<const std::span<const float>> weights,
            std::span<const float> bias = {}, const DepthwiseOptions& options = {}) {
    if (weights.size() != static_cast<std::size_t>(problem.branch_count))
      throw Error(REPLK_INVALID_ARGUMENT, "as many weights as branches are needed");
    std::vector<const float*> pointers;
    for (std::size_t i = 0; i < weights.size(); i++) {
      const replk_branch& b = problem.branches[i];
      if (weights[i].size() != static_cast<std::size_t>(problem.channels) * b.kernel_h * b.kernel_w)
        throw Error(REPLK_INVALID_ARGUMENT,
                    "weights of a branch must have channels x kernel_h x kernel_w elements");
      pointers.push_back(weights[i].data());
    }
    if (!bias.empty() && bias.size() != static_cast<std::size_t>(problem.channels))
      throw Error(REPLK_INVALID_ARGUMENT, "bias must have one element a channel");
    const replk_depthwise_options c = c_options(options);
    replk_depthwise* plan = nullptr;
    check(replk_depthwise_create(&problem, pointers.data(), bias.empty() ? nullptr : bias.data(), &c, &plan));
    plan_.reset(plan);
  }

  /// From a shape such as "n1c128h56w56k31". weights: one pointer a branch.
  Depthwise(const std::string& shape, const std::vector<const float*>& weights, const float* bias = nullptr,
            const DepthwiseOptions& options = {}) {
    const replk_depthwise_options c = c_options(options);
    replk_depthwise* plan = nullptr;
    check(replk_depthwise_create_from_shape(shape.c_str(), weights.data(), bias, &c, &plan));
    plan_.reset(plan);
  }

  /// Height and width of the output.
  std::pair<int, int> output_size() const {
    std::int32_t height = 0, width = 0;
    check(replk_depthwise_output_size(plan_.get(), &height, &width));
    return {height, width};
  }
  std::size_t workspace_bytes() const {
    std::size_t bytes = 0;
    check(replk_depthwise_workspace_bytes(plan_.get(), &bytes));
    return bytes;
  }
  /// With a workspace that the library keeps for each thread.
  void run(const void* src, void* dst, const void* residual = nullptr) const {
    check(replk_depthwise_run(plan_.get(), src, dst, residual, nullptr, 0));
  }
  /// With the caller's, 64-byte aligned and of at least workspace_bytes().
  void run(const void* src, void* dst, const void* residual, std::span<std::byte> workspace) const {
    check(replk_depthwise_run(plan_.get(), src, dst, residual, workspace.data(), workspace.size()));
  }

  std::string shape() const { return replk_depthwise_shape(plan_.get()); }
  std::string tiling() const { return replk_depthwise_tiling(plan_.get()); }
  std::string source() const { return replk_depthwise_source(plan_.get()); }
  const replk_depthwise* get() const noexcept { return plan_.get(); }

 private:
  static replk_depthwise_options c_options(const DepthwiseOptions& options) {
    replk_depthwise_options c = replk_depthwise_options_default();
    c.threads = options.threads;
    if (!options.algorithm.empty()) c.algorithm = options.algorithm.c_str();
    if (!options.tiling.empty()) c.tiling = options.tiling.c_str();
    return c;
  }
  struct Destroy {
    void operator()(replk_depthwise* plan) const noexcept { replk_depthwise_destroy(plan); }
  };
  std::unique_ptr<replk_depthwise, Destroy> plan_;
};

}  // namespace replk
