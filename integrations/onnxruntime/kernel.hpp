// com.replk.Depthwise as a node of a session.
#pragma once
#include <atomic>

#include "api.hpp"
#include "layer.hpp"

namespace replk_ort {

/// Inputs of the op, in their order; from `weight` on each is a branch's.
enum Input : std::size_t { map = 0, bias, scale, residual, weight };

/// Thread-safe: sessions run one node on many threads.
class Kernel {
 public:
  /// Reads the constants, and makes the plan where the graph knows the map's size. Throws.
  Kernel(const OrtApi& api, const OrtKernelInfo* info, replk_type type);
  /// Throws.
  void compute(OrtKernelContext* context);
  const OrtApi& api() const { return api_; }

 private:
  /// Threads of the session, found out at the first run.
  int threads(const OrtKernelContext* context);

  const OrtApi& api_;
  replk_layer::Layer layer_;
  std::atomic<int> threads_ = 0;
};

/// The layer that a node describes. Throws.
replk_layer::Description read_description(const Node& node, replk_type type);

}  // namespace replk_ort
