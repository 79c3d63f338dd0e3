// A prepared direct convolution.
#pragma once
#include <cstddef>
#include <cstdint>
#include <map>
#include <optional>
#include <vector>

#include "core/memory.hpp"
#include "depthwise/algorithm.hpp"
#include "depthwise/direct/geometry.hpp"
#include "depthwise/problem/rows.hpp"
#include "jit/kernels/direct.hpp"

namespace replk::depthwise {

/// A task is an image, a group of channel blocks and, where those are fewer than the threads, a band of
/// output rows; where even these are, groups are smaller. It goes down its rows, a register tile's rows at a
/// time, all blocks of the group after each other.
class DirectExecutor final : public Executor {
 public:
  explicit DirectExecutor(DirectGeometry geometry);

  void set_weights(const Weights& weights, int threads) override;
  std::size_t workspace_bytes(int threads) const override { return scratch_.bytes * threads; }
  void run(const Tensors& tensors, const Run& run) const override;
  std::vector<Phase> phases(int threads) const override;
  Work work() const override;
  std::size_t prepared_bytes() const override;

 private:
  /// Code for a number of output rows at once.
  struct RowGroup {
    std::vector<int> phase_of_row;
    std::optional<jit::DirectKernel> blocks, tail;  // whole channel vectors, and what is left
  };
  struct Task {
    std::int64_t image;
    int block, blocks;      // from this block on, so many
    int channel, channels;  // of these blocks
    int band, bands;
  };
  /// Where a thread's workspace holds what, in bytes.
  struct Scratch {
    std::size_t out, residual, steps, tail_steps, counts, bytes;
  };

  Scratch make_scratch() const;
  void run_task(const Tensors& tensors, const Task& task, char* scratch_memory) const;
  /// `count` output rows from `row` of `rows` of the task's channels. Input rows before `packed` are in the
  /// ring already.
  void run_rows(const Tensors& tensors, const Task& task, const DirectRows& rows, int row, int count,
                int& packed, char* memory) const;
  /// Input rows of these output rows to the ring, where it is read, and their steps to the workspace.
  void take_inputs(const Tensors& tensors, const Task& task, const DirectRows& rows, int row, int count,
                   bool pack, int& packed, char* memory) const;
  /// Where the code writes and what it adds: the tensors, or packed rows, to which it takes the residual.
  struct Target {
    float* dst;
    const float* residual;
    std::int64_t block_bytes;
  };
  Target target(const Tensors& tensors, const Task& task, int row, int count, char* memory) const;
  /// Takes input rows of the task's channels to the ring.
  void pack_rows(const Tensors& tensors, const Task& task, const DirectRows& rows, int begin, int end,
                 float* ring) const;
  /// Writes the steps of the code to the workspace: input rows from `first` to before `last`, with the
  /// weights that each meets.
  void list_steps(const RowGroup& group, const DirectRows& rows, int first, int last, char* memory) const;
  /// Takes `count` rows of the task's channels from the packed output to the tensor, row `row` the first.
  void write_rows(const Tensors& tensors, const Task& task, int row, int count, char* memory) const;

  const DirectGeometry geometry_;
  simd::RowLayout input_, output_;
  std::vector<int> compact_row_;
  std::int64_t weights_row_bytes_ = 0;
  core::Buffer<float> weights_, bias_, scale_;  // [block][row][column][lane], [block][lane]; scale: if any
  int phases_ = 0;
  Scratch scratch_{};
  std::map<int, RowGroup> groups_;  // by their rows: those of a tiling, and what a map leaves
};

}  // namespace replk::depthwise
