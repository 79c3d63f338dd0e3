// com.replk.Depthwise as a node of a session.
#pragma once
#include <atomic>

#include "../layer/layer.hpp"
#include "api.hpp"

namespace replk_ort {

/// The two ops, which differ in their second input alone. ONNX Runtime cannot infer the type of a result if
/// an optional input is missing, so no input is optional: zeros stand for no bias, ones for no scale.
enum class Kind { plain, add };  // com.replk.Depthwise, com.replk.DepthwiseAdd

/// Where the inputs are: the map, of `add` the residual, bias, scale, and from `weight` on one of each
/// branch.
struct Inputs {
  explicit Inputs(Kind kind) : bias(kind == Kind::add ? 2 : 1), scale(bias + 1), weight(bias + 2) {}
  std::size_t map = 0, residual = 1;  // residual: of `add`
  std::size_t bias, scale, weight;
};

/// Thread-safe: sessions run one node on many threads.
class Kernel {
 public:
  /// Reads the constants, and makes the plan where the graph knows the map's size. Throws.
  Kernel(const OrtApi& api, const OrtKernelInfo* info, Kind kind, replk_type type);
  /// Throws.
  void compute(OrtKernelContext* context);
  const OrtApi& api() const { return api_; }

 private:
  /// Threads of the session, found out at the first run.
  int threads(const OrtKernelContext* context);

  const OrtApi& api_;
  Inputs at_;
  replk_layer::Layer layer_;
  std::atomic<int> threads_ = 0;
};

/// The layer that a node describes. Throws.
replk_layer::Description read_description(const Node& node, Kind kind, replk_type type);

}  // namespace replk_ort
