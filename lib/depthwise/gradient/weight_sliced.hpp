// A weight gradient whose sums over the batch are dealt out: groups of channels, and slices of the batch.
#pragma once
#include <cstddef>
#include <cstdint>
#include <vector>

#include "depthwise/gradient/weight_scatter.hpp"

namespace replk::depthwise {

/// A task is a group of channels and a slice of the batch. Where there is one slice, the task writes its
/// gradients; else the sums of all slices wait for the last, and are added in their order.
class SlicedWeightExecutor : public WeightExecutor {
 public:
  std::size_t workspace_bytes(int threads) const final;
  void run(const WeightGradientTensors& tensors, const WeightRun& run) const final;
  std::vector<Phase> phases(int threads) const final;

 protected:
  /// `blocks` vectors of `lanes` channels a group; each has a tile of so many floats.
  SlicedWeightExecutor(const Problem& problem, WeightScatter scatter, std::int64_t tile_floats, int blocks,
                       int lanes);

  struct Group {
    int channel = 0, channels = 0, blocks = 0;
    bool whole = true;  // whole vectors of channels
  };
  /// What a task leaves: of each block a tile, and a vector of sums of dy.
  struct Sums {
    float* tiles;
    double* bias;
  };
  /// Parts of a batch whose sums are added up, one behind the other.
  virtual std::int64_t pieces(std::int64_t batch) const { return batch; }
  /// Bytes that sum() has for itself.
  virtual std::size_t scratch_bytes() const = 0;
  /// The sums of pieces begin .. end - 1. They say nothing of the bias where tensors has none.
  virtual void sum(const WeightGradientTensors& tensors, const Group& group, std::int64_t begin,
                   std::int64_t end, char* scratch, const Sums& sums) const = 0;

  const Problem problem_;
  const WeightScatter scatter_;
  const int blocks_, lanes_;
  const std::int64_t tile_floats_;

 private:
  int groups() const;
  Group group(int index) const;
  /// Enough to occupy threads where groups of channels are few, and a function of the batch alone.
  int slices(std::int64_t batch) const;
  int most_slices() const;
  std::size_t result_bytes() const;
  std::size_t thread_bytes() const;
  Sums sums(char* result) const;
  int& overflowed(char* result) const;
  void write(const WeightGradientTensors& tensors, const WeightRun& run, const Group& group, char* results,
             int slices, void* scratch) const;
};

}  // namespace replk::depthwise
