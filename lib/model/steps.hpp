// A layer's weights, and a layer prepared for one input size.
#pragma once
#include <cstdint>
#include <memory>
#include <span>
#include <string>

#include "core/memory.hpp"
#include "dense/dense.hpp"
#include "model/fold.hpp"
#include "model/graph.hpp"
#include "model/network.hpp"

namespace replk::model {

/// The folded weights of one layer, shared by the plans of all sizes; what is used depends on the operation.
struct Parameters {
  std::shared_ptr<dense::LinearWeights> linear;
  std::shared_ptr<dense::ConvolutionWeights> convolution;
  FoldedDepthwise depthwise;
  core::Buffer<float> gain, offset;          // of layer_norm and grn
  std::shared_ptr<dense::LinearWeights> up;  // of squeeze_excite, behind `linear`
  std::size_t weight_bytes = 0;              // as fp32
};
Parameters load_parameters(const Layer& layer, TensorReader& reader, int threads);

/// The size of a layer's input and output.
struct MapSize {
  std::int64_t batch = 1;
  int height = 1, width = 1;
  std::int64_t pixels() const { return batch * height * width; }
};
MapSize output_size(const Layer& layer, const MapSize& in);

LayerKind kind_of(const Layer& layer);
/// Multiply-adds for a batch, with padding taps counted; branches as the parameters have them.
double macs_of(const Layer& layer, const Parameters& parameters, const MapSize& in);

struct StepOptions {
  int threads = 1;
  depthwise::Numerics numerics = depthwise::Numerics::fast;
};

/// A prepared layer. Immutable once it runs: run() may be called from many threads, each with scratch of its
/// own, and allocates nothing. Layer and parameters outlive it.
class Step {
 public:
  virtual ~Step() = default;
  virtual std::size_t scratch_bytes() const = 0;
  virtual void run(const float* src, float* dst, const float* residual, void* scratch) const = 0;
  /// What a run streams from memory, where it helps to call it up before.
  virtual std::span<const std::byte> weights() const { return {}; }
  /// Tells, before the first run, of weights() of the step behind this one, which outlive it: a step that
  /// leaves the memory idle calls them up meanwhile.
  virtual void set_next(std::span<const std::byte>) {}
  virtual std::string shape() const = 0;   // what it computes
  virtual std::string choice() const = 0;  // what computes it
};
std::unique_ptr<Step> prepare_step(const Layer& layer, const Parameters& parameters, const MapSize& in,
                                   const StepOptions& options);

}  // namespace replk::model
