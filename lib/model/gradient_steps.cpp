#include "model/gradient_steps.hpp"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <utility>
#include <vector>

#include "core/error.hpp"
#include "core/threads.hpp"
#include "depthwise/plan.hpp"
#include "elementwise/elementwise.hpp"
#include "elementwise/gradient.hpp"

namespace replk::model {
namespace {

std::size_t aligned(std::size_t bytes) {
  return core::round_up(bytes, core::alignment);
}

float* advance(void* scratch, std::size_t bytes) {
  return reinterpret_cast<float*>(static_cast<char*>(scratch) + bytes);
}

/// A layer of weights: affine, then its activation, then a residual. Of ReLU the signs are kept, of GELU its
/// input.
class AffineStep : public GradientStep {
 public:
  AffineStep(const Layer& layer, const Parameters& parameters, const MapSize& in, const StepOptions& options)
      : layer_(affine_part(layer)),
        activation_(layer.activation),
        count_(output_size(layer, in).pixels() * layer.outputs),
        threads_(options.threads),
        forward_(prepare_step(layer_, parameters, in, {}, options)) {}

  std::size_t kept_bytes() const override {
    switch (activation_) {
      case Activation::relu:
        return static_cast<std::size_t>((count_ + 63) / 64) * sizeof(std::uint64_t);
      case Activation::gelu:
        return static_cast<std::size_t>(count_) * sizeof(float);
      case Activation::none:
      case Activation::silu:  // no network has these
      case Activation::hard_swish:
        break;
    }
    return 0;
  }
  std::size_t scratch_bytes() const override {
    return std::max(forward_->scratch_bytes(), backward_scratch_bytes());
  }
  void forward(const float* src, float* dst, const float* residual, void* kept,
               void* scratch) const override {
    if (activation_ == Activation::gelu) {
      forward_->run({src, static_cast<float*>(kept), nullptr, nullptr, scratch});
      elementwise::activate(count_, activation_, static_cast<float*>(kept), dst, threads_);
      return;
    }
    forward_->run({src, dst, nullptr, residual, scratch});
    if (activation_ == Activation::relu)
      elementwise::pack_signs(count_, dst, static_cast<std::uint64_t*>(kept), threads_);
  }
  void backward(const float*, const void* kept, float* dst_gradient, float* src_gradient,
                void* scratch) const override {
    if (activation_ == Activation::gelu)
      elementwise::gelu_gradient(count_, static_cast<const float*>(kept), dst_gradient, threads_);
    if (activation_ == Activation::relu)
      elementwise::relu_gradient(count_, static_cast<const std::uint64_t*>(kept), dst_gradient, threads_);
    affine_backward(dst_gradient, src_gradient, scratch);
  }

 protected:
  virtual std::size_t backward_scratch_bytes() const = 0;
  virtual void affine_backward(const float* dst_gradient, float* src_gradient, void* scratch) const = 0;
  int threads() const { return threads_; }

 private:
  static Layer affine_part(Layer layer) {
    if (layer.activation == Activation::gelu) layer.activation = Activation::none;
    return layer;
  }
  Layer layer_;
  Activation activation_;
  std::int64_t count_;  // of output values
  int threads_;
  std::unique_ptr<Step> forward_;
};

/// The same convolution with every kernel turned by 180 degrees; stride 2 is stride 1 over the gradient with
/// zeros between its values.
class DepthwiseGradient : public AffineStep {
 public:
  DepthwiseGradient(const Layer& layer, const Depthwise& operation, const Parameters& parameters,
                    const MapSize& in, bool accumulates, const StepOptions& options)
      : AffineStep(layer, parameters, in, options),
        stride_(operation.stride),
        accumulates_(accumulates),
        in_(in),
        out_(output_size(layer, in)),
        channels_(layer.outputs) {
    const FoldedDepthwise& folded = parameters.depthwise;
    depthwise::Problem problem = operation.problem(layer, folded.branches, in, options.numerics, {});
    problem.stride_h = problem.stride_w = 1;
    problem.epilogue = {.bias = false, .activation = Activation::none, .residual = accumulates};
    std::vector<core::Buffer<float>> turned;
    std::vector<std::span<const float>> views;
    for (std::size_t b = 0; b < folded.branches.size(); ++b) {
      if (folded.branches[b].extent_h() % 2 == 0 || folded.branches[b].extent_w() % 2 == 0)
        core::fail(core::Status::unsupported, "layer {}: no gradient of an even kernel", layer.name);
      turned.push_back(turn(folded.weights[b], folded.branches[b].taps()));
      views.emplace_back(turned.back().begin(), turned.back().end());
    }
    depthwise::PlanOptions plan_options;
    plan_options.threads = options.threads;
    plan_ = std::make_unique<depthwise::Plan>(problem, views, std::span<const float>{}, plan_options);
  }

 private:
  static core::Buffer<float> turn(const core::Buffer<float>& weights, int taps) {
    core::Buffer<float> turned(weights.size());
    for (std::size_t first = 0; first < weights.size(); first += taps)
      std::reverse_copy(weights.begin() + first, weights.begin() + first + taps, turned.begin() + first);
    return turned;
  }
  std::size_t spread_bytes() const {
    return stride_ == 1 ? 0 : aligned(static_cast<std::size_t>(in_.pixels()) * channels_ * sizeof(float));
  }
  std::size_t backward_scratch_bytes() const override { return spread_bytes() + plan_->workspace_bytes(); }
  void affine_backward(const float* dst_gradient, float* src_gradient, void* scratch) const override {
    if (stride_ > 1) {
      spread(dst_gradient, static_cast<float*>(scratch));
      dst_gradient = static_cast<const float*>(scratch);
    }
    plan_->run({dst_gradient, src_gradient, accumulates_ ? src_gradient : nullptr},
               advance(scratch, spread_bytes()));
  }
  /// [out height][out width] to [height][width], zeros between.
  void spread(const float* from, float* to) const {
    core::parallel_for(in_.batch * in_.height, threads(), [&](std::int64_t row, int) {
      const std::int64_t image = row / in_.height, y = row % in_.height;
      float* line = to + row * in_.width * channels_;
      std::fill_n(line, std::int64_t{in_.width} * channels_, 0.0f);
      if (y % stride_ != 0) return;
      const float* source = from + (image * out_.height + y / stride_) * out_.width * channels_;
      for (int x = 0; x < out_.width; ++x)
        std::copy_n(source + std::int64_t{x} * channels_, channels_,
                    line + std::int64_t{x} * stride_ * channels_);
    });
  }

  int stride_;
  bool accumulates_;
  MapSize in_, out_;
  int channels_;
  std::unique_ptr<depthwise::Plan> plan_;
};

class LinearGradient : public AffineStep {
 public:
  LinearGradient(const Layer& layer, const Parameters& parameters, const MapSize& in, bool accumulates,
                 const StepOptions& options)
      : AffineStep(layer, parameters, in, options),
        accumulates_(accumulates),
        plan_({in.pixels(), layer.outputs, layer.inputs, false, Activation::none, accumulates},
              dense::transposed(*parameters.linear, options.threads), {.threads = options.threads}) {}

 private:
  std::size_t backward_scratch_bytes() const override { return plan_.scratch_bytes(); }
  void affine_backward(const float* dst_gradient, float* src_gradient, void* scratch) const override {
    plan_.run(dst_gradient, src_gradient, accumulates_ ? src_gradient : nullptr, scratch);
  }
  bool accumulates_;
  dense::LinearPlan plan_;
};

/// Of a dense convolution: a matrix product gives every output's share in each input that it saw, then each
/// input sums its shares.
class ConvolutionGradient : public AffineStep {
 public:
  ConvolutionGradient(const Layer& layer, const Convolution& operation, const Parameters& parameters,
                      const MapSize& in, const StepOptions& options)
      : AffineStep(layer, parameters, in, options),
        convolution_(operation.at(layer, in)),
        out_(output_size(layer, in)),
        plan_({out_.pixels(), layer.outputs, columns(), false, Activation::none, false},
              dense::transposed(*parameters.convolution, options.threads), {.threads = options.threads}) {}

 private:
  int columns() const { return convolution_.kernel_h * convolution_.kernel_w * convolution_.inputs; }
  std::size_t shares_bytes() const {
    return aligned(static_cast<std::size_t>(out_.pixels()) * columns() * sizeof(float));
  }
  std::size_t backward_scratch_bytes() const override { return shares_bytes() + plan_.scratch_bytes(); }
  void affine_backward(const float* dst_gradient, float* src_gradient, void* scratch) const override {
    auto* shares = static_cast<float*>(scratch);
    plan_.run(dst_gradient, shares, nullptr, advance(scratch, shares_bytes()));
    const dense::Convolution& c = convolution_;
    core::parallel_for(c.batch * c.height, threads(), [&](std::int64_t row, int) {
      const std::int64_t image = row / c.height;
      const int y = static_cast<int>(row % c.height);
      float* line = src_gradient + row * c.width * c.inputs;
      std::fill_n(line, std::int64_t{c.width} * c.inputs, 0.0f);
      for (int a = 0; a < c.kernel_h; ++a) {
        const int down = y + c.pad_h - a;  // stride times the row of the output that saw y with tap a
        if (down < 0 || down % c.stride_h != 0 || down / c.stride_h >= out_.height) continue;
        sum_row(shares + (image * out_.height + down / c.stride_h) * out_.width * columns(), a, line);
      }
    });
  }
  /// Adds what a row of outputs has for one row of inputs.
  void sum_row(const float* shares, int a, float* line) const {
    const dense::Convolution& c = convolution_;
    for (int x = 0; x < out_.width; ++x)
      for (int b = 0; b < c.kernel_w; ++b) {
        const int column = x * c.stride_w + b - c.pad_w;
        if (column < 0 || column >= c.width) continue;
        const float* share = shares + std::int64_t{x} * columns() + (a * c.kernel_w + b) * c.inputs;
        for (int i = 0; i < c.inputs; ++i) line[std::int64_t{column} * c.inputs + i] += share[i];
      }
  }

  dense::Convolution convolution_;
  MapSize out_;
  dense::LinearPlan plan_;
};

/// What elementwise computes: its input is kept, its gradient changed where it lies.
class MapGradient : public GradientStep {
 public:
  MapGradient(const Layer& layer, const Parameters& parameters, const MapSize& in, const StepOptions& options)
      : layer_(layer),
        parameters_(parameters),
        map_{in.batch, std::int64_t{in.height} * in.width, layer.inputs},
        threads_(options.threads),
        forward_(prepare_step(layer, parameters, in, {}, options)) {}
  std::size_t kept_bytes() const override { return 0; }
  std::size_t scratch_bytes() const override {
    return std::max(forward_->scratch_bytes(), backward_scratch_bytes());
  }
  void forward(const float* src, float* dst, const float* residual, void*, void* scratch) const override {
    forward_->run({src, dst, nullptr, residual, scratch});
  }
  void backward(const float* src, const void*, float* gradient, float*, void* scratch) const override {
    map_backward(src, gradient, scratch);
  }

 protected:
  virtual std::size_t backward_scratch_bytes() const { return 0; }
  virtual void map_backward(const float* src, float* gradient, void* scratch) const = 0;

  const Layer& layer_;
  const Parameters& parameters_;
  elementwise::Map map_;
  int threads_;
  std::unique_ptr<Step> forward_;
};

class NormGradient : public MapGradient {
 public:
  NormGradient(const Layer& layer, const Norm& norm, const Parameters& parameters, const MapSize& in,
               const StepOptions& options)
      : MapGradient(layer, parameters, in, options), epsilon_(static_cast<float>(norm.epsilon)) {}

 protected:
  float epsilon_;
};

class LayerNormGradient : public NormGradient {
  using NormGradient::NormGradient;
  void map_backward(const float* src, float* gradient, void*) const override {
    const elementwise::LayerNorm norm{map_.images * map_.pixels, map_.channels, epsilon_, layer_.activation};
    elementwise::layer_norm_gradient(norm, parameters_.gain.data(), parameters_.offset.data(), src, gradient,
                                     threads_);
  }
};

class GrnGradient : public NormGradient {
  using NormGradient::NormGradient;
  std::size_t backward_scratch_bytes() const override {
    return static_cast<std::size_t>(2 * map_.images) * map_.channels * sizeof(float);
  }
  void map_backward(const float* src, float* gradient, void* scratch) const override {
    elementwise::global_response_norm_gradient(map_, parameters_.gain.data(), epsilon_, src, gradient,
                                               static_cast<float*>(scratch), threads_);
  }
};

class ClampGradient : public MapGradient {
  using MapGradient::MapGradient;
  void map_backward(const float* src, float* gradient, void*) const override {
    elementwise::clamp_above_gradient(map_.images * map_.pixels * map_.channels, 6.0f, src, gradient,
                                      threads_);
  }
};

/// y = x * sigmoid(up(relu(down(mean(x))))): the gate's own share, and through the mean the same for every
/// pixel.
class SqueezeExciteGradient : public MapGradient {
 public:
  SqueezeExciteGradient(const Layer& layer, const SqueezeExcite& operation, const Parameters& parameters,
                        const MapSize& in, const StepOptions& options)
      : MapGradient(layer, parameters, in, options),
        hidden_(operation.hidden),
        down_({in.batch, layer.inputs, hidden_, true, Activation::relu}, parameters.linear,
              {.threads = options.threads}),
        up_({in.batch, hidden_, layer.inputs, true}, parameters.up, {.threads = options.threads}),
        from_up_({in.batch, layer.inputs, hidden_, false}, dense::transposed(*parameters.up, options.threads),
                 {.threads = options.threads}),
        from_down_({in.batch, hidden_, layer.inputs, false},
                   dense::transposed(*parameters.linear, options.threads), {.threads = options.threads}) {}

 private:
  std::size_t wide_bytes() const {
    return aligned(static_cast<std::size_t>(map_.images) * map_.channels * sizeof(float));
  }
  std::size_t backward_scratch_bytes() const override {
    return 4 * wide_bytes() + std::max({down_.scratch_bytes(), up_.scratch_bytes(), from_up_.scratch_bytes(),
                                        from_down_.scratch_bytes()});
  }
  void map_backward(const float* src, float* gradient, void* scratch) const override {
    float *gates = advance(scratch, 0), *change = advance(scratch, wide_bytes()),
          *hidden = advance(scratch, 2 * wide_bytes()), *hidden_change = advance(scratch, 3 * wide_bytes());
    void* const inner = advance(scratch, 4 * wide_bytes());
    const std::int64_t wide = map_.images * map_.channels, narrow = map_.images * hidden_;
    elementwise::global_mean(map_, src, change, threads_);
    down_.run(change, hidden, nullptr, inner);
    up_.run(hidden, gates, nullptr, inner);
    elementwise::channel_products(map_, gradient, src, change, threads_);
    for (std::int64_t i = 0; i < wide; ++i) {
      gates[i] = 1.0f / (1.0f + std::exp(-gates[i]));
      change[i] *= gates[i] * (1.0f - gates[i]);
    }
    from_up_.run(change, hidden_change, nullptr, inner);
    for (std::int64_t i = 0; i < narrow; ++i) hidden_change[i] = hidden[i] > 0 ? hidden_change[i] : 0.0f;
    from_down_.run(hidden_change, change, nullptr, inner);
    for (std::int64_t i = 0; i < wide; ++i) change[i] /= static_cast<float>(map_.pixels);
    elementwise::scale_channels(map_, gates, change, gradient, gradient, threads_);
  }
  int hidden_;
  dense::LinearPlan down_, up_, from_up_, from_down_;
};

}  // namespace

bool works_on_source(const Layer& layer) {
  return layer.is<LayerNorm>() || layer.is<Grn>() || layer.is<SqueezeExcite>() || layer.is<Clamp>();
}

std::unique_ptr<GradientStep> prepare_gradient_step(const Layer& layer, const Parameters& parameters,
                                                    const MapSize& in, bool accumulates,
                                                    const StepOptions& options) {
  if (layer.residual >= 0 && layer.activation != Activation::none)
    core::fail(core::Status::unsupported, "layer {}: no gradient of a residual behind an activation",
               layer.name);
  if (accumulates && !layer.is<Depthwise>() && !layer.is<Linear>())
    core::fail(core::Status::unsupported, "layer {}: no gradient where its input has other uses", layer.name);
  using Made = std::unique_ptr<GradientStep>;
  return std::visit(
      Overloaded{[&](const Depthwise& d) -> Made {
                   return std::make_unique<DepthwiseGradient>(layer, d, parameters, in, accumulates, options);
                 },
                 [&](const Linear&) -> Made {
                   return std::make_unique<LinearGradient>(layer, parameters, in, accumulates, options);
                 },
                 [&](const Convolution& c) -> Made {
                   return std::make_unique<ConvolutionGradient>(layer, c, parameters, in, options);
                 },
                 [&](const LayerNorm& n) -> Made {
                   return std::make_unique<LayerNormGradient>(layer, n, parameters, in, options);
                 },
                 [&](const Grn& n) -> Made {
                   return std::make_unique<GrnGradient>(layer, n, parameters, in, options);
                 },
                 [&](const SqueezeExcite& s) -> Made {
                   return std::make_unique<SqueezeExciteGradient>(layer, s, parameters, in, options);
                 },
                 [&](const Clamp&) -> Made {
                   return std::make_unique<ClampGradient>(layer, parameters, in, options);
                 },
                 [&](const Mean&) -> Made {
                   core::fail(core::Status::unsupported, "layer {}: no gradient of this kind of layer",
                              layer.name);
                 }},
      layer.operation);
}

}  // namespace replk::model
