// A chain of layers, prepared for one input size.
#pragma once
#include <memory>
#include <vector>

#include "model/bands.hpp"
#include "model/steps.hpp"

namespace replk::model {

/// Immutable: run() may be called from many threads, each with scratch of its own, and allocates nothing
/// unless it is asked for seconds.
class BandedSteps {
 public:
  /// sizes: of the graph's values. Layers and parameters outlive it.
  BandedSteps(const Graph& graph, const std::vector<Parameters>& parameters,
              const std::vector<MapSize>& sizes, const std::vector<LayerFlow>& flow, const Chain& chain,
              const StepOptions& options);

  const Chain& chain() const { return chain_; }
  std::size_t scratch_bytes() const;
  /// src: what the first layer reads; dst and copy: what the last one writes, each the whole batch. seconds:
  /// where not null, one for each layer: its share of the time that this took.
  void run(const StepRun& whole, std::vector<double>* seconds) const;
  /// What computes a layer in most of the bands.
  std::string choice(std::size_t layer) const;

 private:
  /// Bands that one set of steps computes.
  struct Kind {
    std::vector<BandRows> rows;  // of one of them
    std::vector<std::unique_ptr<Step>> steps;
  };
  struct Band {
    std::size_t kind = 0;
    int src_row = 0, dst_row = 0;
  };
  void prepare_kind(const Graph& graph, const std::vector<Parameters>& parameters,
                    const std::vector<MapSize>& sizes, const std::vector<LayerFlow>& flow,
                    std::vector<BandRows> rows, const StepOptions& options);
  std::size_t thread_bytes() const;
  void run_band(const StepRun& whole, std::int64_t image, const Band& band, char* scratch,
                double* seconds) const;

  Chain chain_;
  int threads_;
  std::int64_t images_;
  std::vector<Kind> kinds_;
  std::vector<Band> bands_;
  std::size_t map_bytes_[2] = {}, step_bytes_ = 0;  // of maps between layers, in turns; of a step's scratch
  std::int64_t src_values_ = 0, src_rows_ = 0, dst_values_ = 0, dst_rows_ = 0;  // of a row; rows of a map
};

}  // namespace replk::model
