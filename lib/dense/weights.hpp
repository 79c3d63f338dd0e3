// The forms of one layer's weights that its plans use: inside the box only.
#pragma once
#include <memory>
#include <mutex>
#include <span>
#include <vector>

#include "core/memory.hpp"

namespace replk::dense {

/// A form that weights are packed in: how it is made of the plain one, and the way back. Thread-safe.
class PackedForm {
 public:
  virtual ~PackedForm() = default;
  virtual bool same(const PackedForm& other) const = 0;
  virtual std::size_t floats() const = 0;
  /// Both buffers have their size; `packed` is zeroed before it is made.
  virtual void pack(const core::Buffer<float>& plain, core::Buffer<float>& packed, int threads) const = 0;
  virtual void unpack(const core::Buffer<float>& packed, core::Buffer<float>& plain, int threads) const = 0;
};

/// Weights in every form that a living plan holds, at least one. A form is made from whichever form is there,
/// by way of the plain one, [outputs][kernel_h][kernel_w][inputs], which lives only as long as it is used.
class PackedWeights {
 public:
  using Form = std::shared_ptr<const core::Buffer<float>>;

  /// weights: [outputs][inputs][kernel_h][kernel_w].
  PackedWeights(int outputs, int inputs, int kernel_h, int kernel_w, std::span<const float> weights,
                std::span<const float> bias);

  int inputs() const { return inputs_; }
  int outputs() const { return outputs_; }
  int kernel_h() const { return kernel_h_; }
  int kernel_w() const { return kernel_w_; }
  const core::Buffer<float>& bias() const { return bias_; }  // empty where there is none

  // Forms are made on at most `threads` threads (0: all).
  Form plain(int threads);
  Form packed(std::shared_ptr<const PackedForm> wanted, int threads);
  /// Of a 1x1 kernel: [panel][inputs][width], `width` outputs side by side, zeros behind the last output.
  Form panels(int width, int threads);
  std::size_t bytes() const;

 private:
  struct Entry {
    std::shared_ptr<const PackedForm> form;  // null: plain
    std::weak_ptr<const core::Buffer<float>> data;
  };
  Form plain_locked(int threads);
  void keep(const Form& form);

  int outputs_, inputs_, kernel_h_, kernel_w_;
  core::Buffer<float> bias_;
  mutable std::mutex mutex_;
  std::vector<Entry> entries_;
  Form kept_;  // so that one form always lives
};

}  // namespace replk::dense
