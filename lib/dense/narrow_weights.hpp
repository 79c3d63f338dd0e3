// The forms of one layer's narrow weights that its plans use: inside the box only.
#pragma once
#include <cstddef>
#include <cstdint>
#include <memory>
#include <mutex>
#include <span>
#include <vector>

#include "core/memory.hpp"
#include "core/types.hpp"
#include "dense/dense.hpp"

namespace replk::dense {

/// Weights in every form that a living plan holds, at least one, as PackedWeights has them in fp32.
/// Thread-safe.
class NarrowWeights {
 public:
  using Form = std::shared_ptr<const core::Buffer<std::byte>>;

  /// How panels lie: [panel][part][inputs rounded up / group][width][group], zeros behind the last output and
  /// input. bf16x3 has two parts, a weight being their sum; all else one. inputs are rounded up to
  /// `multiple`, a multiple of `group`.
  struct Panels {
    int width = 0;  // outputs side by side
    int group = 1;  // inputs side by side
    int multiple = 1;
    bool operator==(const Panels&) const = default;
  };

  /// Rounds fp32 weights to bf16 once (bf16x3: and what that leaves out once more). weights:
  /// [outputs][inputs].
  NarrowWeights(int outputs, int inputs, Precision precision, std::span<const float> weights,
                std::span<const float> bias);
  NarrowWeights(int outputs, int inputs, const Int8Weights& weights);

  Precision precision() const { return precision_; }
  int inputs() const { return inputs_; }
  int outputs() const { return outputs_; }
  bool has_bias() const { return has_bias_; }
  const core::Buffer<float>& bias() const { return bias_; }  // [outputs], zeros where there is none
  const core::Buffer<float>& multiplier() const { return multiplier_; }  // [outputs] of int8, else ones
  const Quantiser& input() const { return input_; }  // of int8; empty where none was given
  int parts() const { return precision_ == Precision::bf16x3 ? 2 : 1; }
  std::size_t element_bytes() const { return precision_ == Precision::int8 ? 1 : 2; }
  /// Of one panel, with its parts.
  std::size_t panel_bytes(const Panels& panels) const;

  /// [part][outputs][inputs].
  Form plain();
  Form panels(const Panels& panels);
  std::size_t bytes() const;

 private:
  struct Entry {
    Panels panels;  // width 0: the plain form
    std::weak_ptr<const core::Buffer<std::byte>> data;
  };
  Form find(const Panels& panels);
  Form plain_locked();
  /// Copies between the plain form and panels, forwards or back.
  template <class T, bool pack>
  void move(const Panels& panels, T* plain, T* packed) const;
  void keep(const Form& form);
  void first(Form form);

  Precision precision_;
  int outputs_, inputs_;
  bool has_bias_;
  core::Buffer<float> bias_, multiplier_;
  Quantiser input_;
  mutable std::mutex mutex_;
  std::vector<Entry> entries_;
  Form kept_;  // so that one form always lives
};

}  // namespace replk::dense
