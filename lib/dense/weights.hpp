// The forms of one layer's weights that its plans use: inside the box only.
#pragma once
#include <memory>
#include <mutex>
#include <optional>
#include <span>
#include <vector>

#include "core/memory.hpp"
#include "dense/onednn/loaded.hpp"

namespace replk::dense {

/// How a primitive names the weights' dimensions.
enum class Role {
  convolution,    // {outputs, inputs, kernel_h, kernel_w}
  matmul,         // {inputs, outputs}
  inner_product,  // {outputs, inputs}
  panels,         // not oneDNN's: see PackedWeights::panels
  plain,          // not oneDNN's either: [outputs][kernel_h][kernel_w][inputs]
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
  Form packed(Role role, const dnnl::memory::desc& wanted, int threads);
  /// Of a 1x1 kernel: [panel][inputs][width], `width` outputs side by side, zeros behind the last output.
  Form panels(int width, int threads);
  /// The plain form as a primitive with this role describes it.
  dnnl::memory::desc plain_desc(Role role) const;
  std::size_t bytes() const;

 private:
  struct Entry {
    Role role;
    std::optional<dnnl::memory::desc> desc;  // of oneDNN's roles alone: oneDNN need not be there
    int width;                               // of panels, otherwise 0
    std::weak_ptr<const core::Buffer<float>> data;
  };
  Form plain_locked(int threads);
  Form unpack(const Entry& entry, const Form& data, int threads) const;
  /// Takes a new form into the entries.
  void enter(Role role, std::optional<dnnl::memory::desc> desc, int width, const Form& form);
  void keep(const Form& form);

  int outputs_, inputs_, kernel_h_, kernel_w_;
  core::Buffer<float> bias_;
  mutable std::mutex mutex_;
  std::vector<Entry> entries_;
  Form kept_;  // so that one form always lives
};

}  // namespace replk::dense
