// A layer prepared for one input size.
#pragma once
#include <cstdint>
#include <memory>
#include <span>
#include <string>

#include "model/flow.hpp"
#include "model/graph.hpp"
#include "model/network.hpp"
#include "model/parameters.hpp"

namespace replk::model {

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
  /// Dense layers in fp32 sum in one order on every CPU, slowly: with exact depthwise layers an int8 network
  /// then has the same bits everywhere.
  bool fixed_order = false;
};

/// What a step reads and writes, channels-last: dst, and copy, are null where the flow has none.
struct StepRun {
  const void* src = nullptr;  // of the flow's element
  float* dst = nullptr;
  void* copy = nullptr;
  const float* residual = nullptr;
  void* scratch = nullptr;

  const float* floats() const { return static_cast<const float*>(src); }
};

/// Where a step stands: what it reads and writes, and the layer whose operand its copy is (null: none).
struct StepPlace {
  LayerFlow flow;
  const Parameters* next = nullptr;
};

/// A prepared layer. Immutable once it runs: run() may be called from many threads, each with scratch of its
/// own, and allocates nothing. Layer and parameters outlive it.
class Step {
 public:
  virtual ~Step() = default;
  virtual std::size_t scratch_bytes() const = 0;
  virtual void run(const StepRun& run) const = 0;
  /// What a run streams from memory, where it helps to call it up before.
  virtual std::span<const std::byte> weights() const { return {}; }
  /// Tells, before the first run, of weights() of the step behind this one, which outlive it: a step that
  /// leaves the memory idle calls them up meanwhile.
  virtual void set_next(std::span<const std::byte>) {}
  virtual std::string shape() const = 0;   // what it computes
  virtual std::string choice() const = 0;  // what computes it
};
std::unique_ptr<Step> prepare_step(const Layer& layer, const Parameters& parameters, const MapSize& in,
                                   const StepPlace& place, const StepOptions& options);

}  // namespace replk::model
