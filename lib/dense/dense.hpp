// Dense layers, channels-last: linear (pointwise, 1x1) layers by a generated matrix product or by oneDNN, in
// fp32 or with narrow operands; k x k convolutions by oneDNN, in fp32; plain loops for all where no code can
// be generated.
//
// Weights are apart from plans, so that sessions and input sizes share them. Plans are immutable: run() may
// be called from many threads at once, each with scratch of its own.
#pragma once
#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "core/features.hpp"
#include "core/prefetch.hpp"
#include "core/types.hpp"
#include "core/values.hpp"

namespace replk::dense {

class PackedWeights;  // the forms in use of one layer's weights (weights.hpp)
class NarrowWeights;  // the same of narrow ones (narrow_weights.hpp)
class Engine;         // what computes a plan: own products or an oneDNN primitive (engine.hpp)

/// How a tensor becomes u8, by channel c: clamp(round_to_nearest_even(fma(x, scale[c], offset[c])), 0, 255);
/// a NaN becomes 0 (core/quantise.hpp).
struct Quantiser {
  std::vector<float> scale, offset;  // [channels]
};

/// A linear layer over rows (channels-last pixels): dst[rows][outputs] = src[rows][inputs] *
/// weights[outputs][inputs]^T, then bias, activation, residual, in this order. All tensors are contiguous.
///
/// Of a narrow precision the operands of the products are narrow, nothing else: src is rounded to bf16 or
/// quantised (or came so), sums and what follows are fp32. int8, the same bits on every instruction set, with
/// any number of threads: y[o] = fma(float(sum over c of q[c] * w[o][c]), multiplier[o], bias[o]),
/// activation, residual. bf16: within 1e-6 * (sum of |products|) of the exact sum of the rounded operands.
/// GELU is core::narrow_gelu.
struct Linear {
  std::int64_t rows = 1;
  int inputs = 1, outputs = 1;
  bool bias = true;
  Activation activation = Activation::none;
  bool residual = false;
  Precision precision = Precision::fp32;
  /// What run() is given: f32, which the layer narrows itself, or the operand's own type: bf16 for bf16, u8
  /// for int8, each in rows or in tiles, bf16x2_tiles for bf16x3. In tiles inputs are whole steps of them
  /// (core/tile_order.hpp), and so are the outputs of a copy; AMX alone has them.
  Element src = Element::f32;
  bool result = true;           // writes dst in fp32
  Element copy = Element::f32;  // f32: none; else it also, or only, writes the result in this type
  bool operator==(const Linear&) const = default;
  double macs() const { return double(rows) * inputs * outputs; }
};

/// A dense convolution (cross-correlation), NHWC in and out, the same padding on both sides; then bias,
/// activation.
struct Convolution {
  std::int64_t batch = 1;
  int inputs = 1, outputs = 1;  // channels
  int height = 1, width = 1;    // of the input
  int kernel_h = 1, kernel_w = 1;
  int stride_h = 1, stride_w = 1;
  int pad_h = 0, pad_w = 0;
  bool bias = true;
  Activation activation = Activation::none;
  bool operator==(const Convolution&) const = default;
  /// Output sizes, once the plan has checked the fields.
  int out_height() const { return (height + 2 * pad_h - kernel_h) / stride_h + 1; }
  int out_width() const { return (width + 2 * pad_w - kernel_w) / stride_w + 1; }
  double macs() const {
    return double(batch) * out_height() * out_width() * outputs * inputs * kernel_h * kernel_w;
  }
};

/// Weights of an int8 layer, as quantisation made them.
struct Int8Weights {
  std::span<const std::int8_t> values;      // [outputs][inputs], -127 to 127
  std::span<const float> multiplier, bias;  // [outputs]; zero points are in the bias
  const Quantiser* input = nullptr;         // of the layer's input; null where that always comes as u8
};

/// Weights and bias of one layer, copied once. The first plan packs them in the form its engine wants and
/// the plain copy is freed; a plan that wants another form gets it reordered from a packed one, and a form no
/// plan uses any more is freed (one always stays). So memory stays near one copy where plans want one form:
/// those of `gemm` do whatever their rows, oneDNN's need not (brgconv_1x1 on AVX-512 wants blocks of 32
/// outputs for 49 rows and of 64 for 784). Thread-safe.
/// Narrow weights are kept narrow, in forms that are made of each other without loss.
class LinearWeights {
 public:
  /// weights: [outputs][inputs]; bias: [outputs], or empty for none. precision: any but int8; narrower ones
  /// are rounded to nearest even, once. Throws invalid_argument on wrong sizes.
  LinearWeights(int inputs, int outputs, std::span<const float> weights, std::span<const float> bias,
                Precision precision = Precision::fp32);
  /// int8. Throws invalid_argument on wrong sizes, more than 65536 inputs (the sums are 32 bits) and a weight
  /// of -128.
  LinearWeights(int inputs, int outputs, const Int8Weights& weights);
  ~LinearWeights();
  Precision precision() const;
  int inputs() const;
  int outputs() const;
  bool has_bias() const;
  /// Bytes held now, all forms and the bias.
  std::size_t bytes() const;
  /// fp32; else null.
  const std::shared_ptr<PackedWeights>& packed() const { return packed_; }
  /// Of a narrow precision; else null.
  const std::shared_ptr<NarrowWeights>& narrow() const { return narrow_; }

 private:
  std::shared_ptr<PackedWeights> packed_;
  std::shared_ptr<NarrowWeights> narrow_;
};

/// The same for a convolution.
class ConvolutionWeights {
 public:
  /// weights: [outputs][inputs][kernel_h][kernel_w] as PyTorch has them; bias: [outputs], or empty for none.
  ConvolutionWeights(int inputs, int outputs, int kernel_h, int kernel_w, std::span<const float> weights,
                     std::span<const float> bias);
  ~ConvolutionWeights();
  std::size_t bytes() const;
  const std::shared_ptr<PackedWeights>& packed() const { return packed_; }

 private:
  std::shared_ptr<PackedWeights> packed_;
};

/// What brings the gradient of a layer's output back to its input, as a linear layer without bias: the matrix
/// transposed, inputs and outputs changed about. Of a convolution, [kernel_h * kernel_w * inputs] values a
/// pixel of the output, one for each input that it saw. Made on at most `threads` threads (0: all).
std::shared_ptr<LinearWeights> transposed(const LinearWeights& weights, int threads);
std::shared_ptr<LinearWeights> transposed(const ConvolutionWeights& weights, int threads);

struct PlanOptions {
  int threads = 0;  // 0: all (core::default_threads)
  std::optional<std::string> choice =
      {};                           // force this candidate's text (invalid_argument where it is not legal)
  const Quantiser* copy = nullptr;  // of a u8 copy: [outputs], read once
  std::optional<Features> features = {};  // instead of core::features(): for tests that emulate some
};

/// What a run of a linear layer works on. src: [rows][inputs], of the layer's src type. dst and copy:
/// [rows][outputs], of the layer's copy type, none where the layer has no such result. residual:
/// [rows][outputs] in fp32, null exactly where the layer has none. residual may equal dst and is then free;
/// elsewhere oneDNN's cost a copy. Nothing else may overlap. scratch: at least scratch_bytes(), 64-byte
/// aligned, one a caller. prefetch: what the layer behind this one will read: a product leaves the memory
/// idle.
struct LinearRun {
  ConstValues src = {};
  float* dst = nullptr;
  Values copy = {};
  const float* residual = nullptr;
  void* scratch = nullptr;
  core::Prefetch prefetch = {};
};

/// A layer, prepared: weights, and an engine that computes it, picked by the tuner among candidates(), else
/// analytically.
class Plan {
 public:
  ~Plan();
  Plan(Plan&&) noexcept;
  Plan& operator=(Plan&&) noexcept;

  /// What computes it, as the tune cache stores it: `gemm depth=1024 rows=128`,
  /// `onednn primitive=convolution implementation=jit_1x1:avx2`, `plain`.
  const std::string& choice() const { return choice_; }
  /// Where the choice came from: analytic, forced, cache, measured, near(...).
  const std::string& source() const { return source_; }
  /// Its own name for its implementation, e.g. gemm:avx2 or brgemm:avx2.
  std::string implementation() const;
  std::size_t scratch_bytes() const;
  /// What a run reads first, where it helps to prefetch it. Lives as long as the plan.
  core::Prefetch prefetch() const;

 protected:
  template <class Layer, class Weights>  // of dense.cpp alone
  Plan(const Layer& layer, std::shared_ptr<Weights> weights, const PlanOptions& options);
  const Engine& engine() const { return *engine_; }

 private:
  std::string choice_, source_;
  std::shared_ptr<const void> weights_;  // that the engine reads
  std::unique_ptr<Engine> engine_;
};

class LinearPlan final : public Plan {
 public:
  /// Throws invalid_argument where sizes are out of range or differ from the weights', and unsupported where
  /// the precision needs a feature that is not in use (bf16x3: AMX).
  LinearPlan(const Linear& linear, std::shared_ptr<LinearWeights> weights, const PlanOptions& options = {});

  const Linear& linear() const { return linear_; }
  /// Thread-safe, each run with scratch of its own. Throws invalid_argument where a tensor is missing, too
  /// many or of another type.
  void run(const LinearRun& tensors) const;
  /// The same of fp32 tensors alone.
  void run(const float* src, float* dst, const float* residual, void* scratch) const {
    run({src, dst, nullptr, residual, scratch});
  }

 private:
  Linear linear_;
};

/// Whether products in this precision can read and write tensors in tiles here: they go through AMX.
bool multiplies_tiles(Precision precision, Features features = core::features());

/// Every choice worth trying for a layer on this machine, the analytic pick first.
std::vector<std::string> candidates(const Linear& linear, int threads);
std::vector<std::string> candidates(const Convolution& convolution, int threads);

class ConvolutionPlan final : public Plan {
 public:
  ConvolutionPlan(const Convolution& convolution, std::shared_ptr<ConvolutionWeights> weights,
                  const PlanOptions& options = {});

  const Convolution& convolution() const { return convolution_; }
  /// src: batch x height x width x inputs; dst: batch x out_height x out_width x outputs.
  void run(const float* src, float* dst, void* scratch) const;

 private:
  Convolution convolution_;
};

}  // namespace replk::dense
