// A network prepared for one batch, height and width: steps, and the arena their activations lie in.
#pragma once
#include <memory>
#include <mutex>
#include <vector>

#include "core/memory.hpp"
#include "model/arena.hpp"
#include "model/banded_steps.hpp"
#include "model/flow.hpp"
#include "model/steps.hpp"

namespace replk::model {

/// The norm that a feature passes while it is written: a map of each channel (a folded BN), behind mean 0 and
/// variance 1 over a pixel's channels where it is a layer norm. Empty where not wanted.
struct FeatureNorm {
  Affine affine;
  bool over_channels = false;
};
using FeatureNorms = std::array<FeatureNorm, 4>;

/// Thread-safe once made.
class SizePlan {
 public:
  SizePlan(const Graph& graph, const std::vector<Parameters>& parameters, const MapSize& input,
           const StepOptions& options);

  const MapSize& input() const { return input_; }
  void run(const Graph& graph, const Input& input, const Output& output, const FeatureNorms& norms,
           const RunOptions& options);

 private:
  struct PlannedStep {
    std::unique_ptr<Step> step;
    double macs = 0;
  };
  using Arena = core::Buffer<char>;

  /// The layer until whose end another's input is read: a chain reads its own while its last layer writes.
  int last_read(int layer) const;
  void plan_memory(const Graph& graph);
  /// What stands in the arena for a layer.
  StepRun run_of(const Graph& graph, std::size_t layer, const Input& input, char* arena) const;
  void run_banded(const Graph& graph, const BandedSteps& banded, const Input& input, char* arena,
                  Profile* profile) const;
  LayerProfile profile_of(const Graph& graph, std::size_t layer, double seconds) const;
  Arena take_arena();
  void return_arena(Arena arena) noexcept;

  MapSize input_;
  StepOptions options_;
  std::vector<PlannedStep> steps_;         // of graph.layers
  std::vector<BandedSteps> banded_;        // of those of them that run in bands, unless they are observed
  std::vector<LayerFlow> flow_;            // of graph.layers
  std::vector<MapSize> sizes_;             // of graph.values
  std::vector<std::size_t> offsets_;       // of graph.values in the arena, where they are fp32
  std::vector<std::size_t> copy_offsets_;  // of the narrow copies that graph.layers write
  std::size_t scratch_offset_ = 0, arena_bytes_ = 0;
  std::mutex mutex_;
  std::vector<Arena> free_arenas_;
};

}  // namespace replk::model
