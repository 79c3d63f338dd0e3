// A layer prepared for one input size.
#pragma once
#include <memory>
#include <optional>
#include <span>
#include <string>

#include "core/prefetch.hpp"
#include "core/values.hpp"
#include "model/flow.hpp"
#include "model/graph.hpp"
#include "model/network.hpp"
#include "model/parameters.hpp"

namespace replk::model {

/// Multiply-adds for a batch, with padding taps counted; branches as the parameters have them.
double macs_of(const Layer& layer, const Parameters& parameters, const MapSize& in);

struct StepOptions {
  int threads = 1;
  depthwise::Numerics numerics = depthwise::Numerics::fast;
  /// Dense layers in fp32 sum in one order on every CPU, slowly: with exact depthwise layers an int8 network
  /// then has the same bits everywhere.
  bool fixed_order = false;
};

/// What a step reads and writes, channels-last, of the flow's types; dst and copy are none where it has none.
struct StepRun {
  ConstValues src = {};
  float* dst = nullptr;
  Values copy = {};
  const float* residual = nullptr;
  void* scratch = nullptr;

  const float* floats() const { return src.as<float>(); }
};

/// Where a step stands: what it reads and writes, the layer whose operand its copy is (null: none), and,
/// where it works on a band of its map's rows, what is padding above and below them (bands.hpp).
struct StepPlace {
  LayerFlow flow;
  const Parameters* next = nullptr;
  std::optional<RowPadding> rows = {};
};

/// A prepared layer. Immutable once it runs: run() may be called from many threads, each with scratch of its
/// own, and allocates nothing. Layer and parameters outlive it.
class Step {
 public:
  virtual ~Step() = default;
  virtual std::size_t scratch_bytes() const = 0;
  virtual void run(const StepRun& run) const = 0;
  /// What a run streams from memory, where it helps to prefetch it.
  virtual core::Prefetch prefetch() const { return {}; }
  /// Before the first run: prefetch() of the step behind this one, which outlives it. A step that leaves the
  /// memory idle does it meanwhile.
  virtual void prefetch_next(core::Prefetch) {}
  virtual std::string shape() const = 0;   // what it computes
  virtual std::string choice() const = 0;  // what computes it
};
std::unique_ptr<Step> prepare_step(const Layer& layer, const Parameters& parameters, const MapSize& in,
                                   const StepPlace& place, const StepOptions& options);

/// For the dense layers of an operation in this precision.
dense::PlanOptions dense_options(const StepOptions& options, Precision precision = Precision::fp32);

inline std::span<const float> view(const core::Buffer<float>& buffer) {
  return {buffer.data(), buffer.size()};
}

}  // namespace replk::model
