// A prepared row-spectral convolution.
#pragma once
#include <functional>
#include <memory>
#include <span>
#include <vector>

#include "depthwise/algorithm.hpp"
#include "depthwise/problem/rows.hpp"
#include "depthwise/row_spectral/geometry.hpp"
#include "depthwise/row_spectral/weights.hpp"
#include "jit/x64/code.hpp"

namespace replk::depthwise {

/// Rows of the map are transformed into planes, each frequency is convolved along the other axis, rows come
/// back.
///
/// A task is one image, one segment of each axis and one group of channels. Where there are enough of them
/// for the threads, a thread takes a task through all three passes in its own scratch, output planes
/// overwriting input planes. Otherwise all tasks advance together, pass by pass, and each pass is dealt out
/// by rows or by planes.
class RowSpectralExecutor final : public Executor {
 public:
  RowSpectralExecutor(const RowSpectralGeometry& geometry, const Kernel& kernel);
  /// With the weights of this layer's, of a problem whose kernel is its kernel turned; null where they do not
  /// serve.
  static std::unique_ptr<RowSpectralExecutor> turned(RowSpectralGeometry geometry,
                                                     const RowSpectralExecutor& layer);

  void set_weights(const Weights& weights, int threads) override { spectra_->set(weights, threads); }
  bool unpacks() const override { return spectra_->unpacks(); }
  void unpack(int channel, int row, double* to) const override { spectra_->unpack(channel, row, to); }
  std::size_t workspace_bytes(int threads) const override;
  void run(const Tensors& tensors, const Run& run) const override;
  ChannelTasks channel_tasks(std::int64_t batch, int threads) const override;
  void run_task(const Tensors& tensors, void* workspace, std::int64_t index) const override;
  std::vector<Phase> phases(int threads) const override;
  Work work() const override;
  std::size_t prepared_bytes() const override;
  core::Prefetch prefetch() const override { return core::Prefetch(std::as_const(*spectra_).weights()); }

 private:
  struct RowCode {
    jit::RowForward forward = nullptr, forward_buffered = nullptr;
    jit::RowInverse inverse = nullptr, inverse_buffered = nullptr;
  };
  struct Task {
    std::int64_t image = 0;
    int along = 0, across = 0, group = 0;  // segments and the group of channels
  };
  /// A group's channels.
  struct Group {
    int channel = 0, channels = 0, blocks = 0, block = 0;
    bool buffered = false;
  };

  RowSpectralExecutor(const RowSpectralGeometry& geometry, std::shared_ptr<Spectra> spectra,
                      const std::vector<int>& signs);

  template <class Function>
  Function code(const std::string& spec, const std::function<std::vector<std::uint8_t>()>& generate);

  std::int64_t tasks(std::int64_t batch) const;
  bool by_phases(std::int64_t batch, int threads) const;
  std::size_t task_bytes() const;  // of a thread that takes tasks through all passes
  /// What a thread has for itself beside planes: packed rows while it transforms these, and what the column
  /// pass hands on in between.
  std::size_t private_bytes() const;
  Task task(std::int64_t index) const;
  Group group(int index) const;

  void forward(const Task& task, const Tensors& tensors, int begin, int end, char* planes,
               float* buffer) const;
  void multiply(const Task& task, int block, int begin, int end, const char* in, char* out,
                char* scratch) const;
  void inverse(const Task& task, const Tensors& tensors, int begin, int end, const char* planes,
               float* buffer) const;
  void finish_rows(int block, int blocks, int height, int width, float* out, const float* residual) const;
  void run_by_phases(const Tensors& tensors, const Run& run) const;
  std::int64_t element(const Task& task, bool output, int pixel, int row, int channel) const;
  /// Rows of the transform, of some pixels, as a part of the map.
  struct Part {
    simd::RowLayout layout;
    int height;
  };
  Part part(bool output, int rows, int pixels) const;

  const RowSpectralGeometry geometry_;
  const RowSpectralGeometry::Window window_in_, window_out_;
  const simd::RowLayout input_, output_;
  const std::shared_ptr<Spectra> spectra_;
  const core::Buffer<float> no_bias_;                 // of one that is turned
  std::vector<RowCode> rows_;                         // for each run of segments of the transformed axis
  std::vector<std::unique_ptr<ColumnCode>> columns_;  // for each run of the other one's
  std::vector<std::shared_ptr<const jit::Code>> code_;
  std::vector<std::span<const std::uint8_t>> code_bytes_;  // of rows and columns
  std::size_t column_scratch_ = 0;                         // bytes that the column pass wants besides planes
};

}  // namespace replk::depthwise
