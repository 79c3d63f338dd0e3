#include "dense/dense.hpp"

#include <algorithm>
#include <type_traits>
#include <utility>

#include "core/cpu.hpp"
#include "core/error.hpp"
#include "core/threads.hpp"
#include "core/tile_order.hpp"
#include "dense/choice.hpp"
#include "dense/engine.hpp"
#include "dense/gemm.hpp"
#include "dense/narrow.hpp"
#include "dense/narrow_weights.hpp"
#include "dense/onednn/primitives.hpp"
#include "dense/plain.hpp"
#include "dense/weights.hpp"
#include "jit/x64/code.hpp"

namespace replk::dense {
namespace {

using core::fail;
using core::Status;

constexpr std::int64_t max_channels = 1 << 20, max_extent = 1 << 16;
constexpr std::int64_t longest_int8_sum = 1 << 16;  // 255 * 127 * 65536 < 2^31
constexpr std::int64_t max_elements = std::int64_t{1}
                                      << 31;  // of a tensor: oneDNN's kernels count in 32 bits

void check(const char* field, std::int64_t value, std::int64_t low, std::int64_t high) {
  if (value < low || value > high)
    fail(Status::invalid_argument, "dense layer: {} is {}, allowed are {} to {}", field, value, low, high);
}

void check_sizes(int inputs, int outputs, int kernel_h, int kernel_w, std::size_t weights, std::size_t bias) {
  check("inputs", inputs, 1, max_channels);
  check("outputs", outputs, 1, max_channels);
  check("kernel_h", kernel_h, 1, 63);
  check("kernel_w", kernel_w, 1, 63);
  const std::int64_t wanted = std::int64_t(inputs) * outputs * kernel_h * kernel_w;
  check("the number of weights", std::int64_t(weights), wanted, wanted);
  if (bias != 0) check("the number of biases", std::int64_t(bias), outputs, outputs);
}

void check_quantiser(const char* field, const Quantiser& quantiser, int channels) {
  if (quantiser.scale.size() != std::size_t(channels) || quantiser.offset.size() != std::size_t(channels))
    fail(Status::invalid_argument, "dense layer: {} has {} scales and {} offsets, allowed is {} each", field,
         quantiser.scale.size(), quantiser.offset.size(), channels);
}

std::shared_ptr<PackedWeights> pack(int inputs, int outputs, int kernel_h, int kernel_w,
                                    std::span<const float> weights, std::span<const float> bias) {
  check_sizes(inputs, outputs, kernel_h, kernel_w, weights.size(), bias.size());
  return std::make_shared<PackedWeights>(outputs, inputs, kernel_h, kernel_w, weights, bias);
}

void check_bias(bool bias, bool weights_have_one) {
  if (bias != weights_have_one)
    fail(Status::invalid_argument, "dense layer: bias is {}, but its weights came {} one", bias,
         bias ? "without" : "with");
}

void check_weights(const PackedWeights& w, int inputs, int outputs, int kernel_h, int kernel_w, bool bias) {
  check("inputs", inputs, w.inputs(), w.inputs());
  check("outputs", outputs, w.outputs(), w.outputs());
  check("kernel_h", kernel_h, w.kernel_h(), w.kernel_h());
  check("kernel_w", kernel_w, w.kernel_w(), w.kernel_w());
  check_bias(bias, w.bias().size() > 0);
}

/// What a product in this precision may be given.
bool is_operand(Element element, Precision precision) {
  constexpr Element f32 = Element::f32;
  switch (precision) {
    case Precision::fp32:
      return element == f32;
    case Precision::bf16:
      return element == f32 || without_order(element) == Element::bf16;
    case Precision::int8:
      return element == f32 || without_order(element) == Element::u8;
    case Precision::bf16x3:
      return element == f32 || element == Element::bf16x2_tiles;
  }
  return false;
}

void check_whole_steps(const char* tensor, Element type, int channels) {
  if (in_tiles(type) && channels % core::TileOrder::step_channels(type) != 0)
    fail(Status::invalid_argument, "dense layer: {} is {} of {} channels, allowed are multiples of {}",
         tensor, name(type), channels, core::TileOrder::step_channels(type));
}

/// What a linear layer reads, multiplies in and writes.
void check_types(const Linear& l, const LinearWeights& weights, const Quantiser* copy) {
  if (l.precision != weights.precision())
    fail(Status::invalid_argument, "dense layer: precision is {}, but its weights are {}", name(l.precision),
         name(weights.precision()));
  if (!is_operand(l.src, l.precision))
    fail(Status::invalid_argument, "dense layer: src is {}, allowed with precision {} are f32{}", name(l.src),
         name(l.precision),
         l.precision == Precision::fp32     ? ""
         : l.precision == Precision::bf16   ? ", bf16 and bf16_tiles"
         : l.precision == Precision::bf16x3 ? " and bf16x2_tiles"
                                            : ", u8 and u8_tiles");
  check_whole_steps("src", l.src, l.inputs);
  check_whole_steps("copy", l.copy, l.outputs);
  if (l.precision == Precision::fp32 && l.copy != Element::f32)
    fail(Status::invalid_argument, "dense layer: copy is {}, but precision fp32 has none", name(l.copy));
  if (!l.result && l.copy == Element::f32)
    fail(Status::invalid_argument, "dense layer: it has neither a result nor a copy");
  const bool quantised = without_order(l.copy) == Element::u8;
  if (quantised && !copy)
    fail(Status::invalid_argument, "dense layer: copy is {}, but there is no quantiser for it", name(l.copy));
  if (quantised) check_quantiser("the copy's quantiser", *copy, l.outputs);
  if (l.precision == Precision::int8 && l.src == Element::f32 && weights.narrow()->input().scale.empty())
    fail(Status::invalid_argument, "dense layer: src is f32, but its weights came without a quantiser");
}

void check_layer(const Linear& l, const LinearWeights& weights, const PlanOptions& options) {
  check("rows", l.rows, 1, max_elements / std::max(weights.inputs(), weights.outputs()));
  check("inputs", l.inputs, weights.inputs(), weights.inputs());
  check("outputs", l.outputs, weights.outputs(), weights.outputs());
  check_bias(l.bias, weights.has_bias());
  check_types(l, weights, options.copy);
}

void check_layer(const Convolution& c, const ConvolutionWeights& weights, const PlanOptions&) {
  check_weights(*weights.packed(), c.inputs, c.outputs, c.kernel_h, c.kernel_w, c.bias);
  check("stride_h", c.stride_h, 1, 63);
  check("stride_w", c.stride_w, 1, 63);
  check("pad_h", c.pad_h, 0, c.kernel_h - 1);
  check("pad_w", c.pad_w, 0, c.kernel_w - 1);
  check("height", c.height, std::max(1, c.kernel_h - 2 * c.pad_h), max_extent);
  check("width", c.width, std::max(1, c.kernel_w - 2 * c.pad_w), max_extent);
  const std::int64_t image = std::max(std::int64_t(c.height) * c.width * c.inputs,
                                      std::int64_t(c.out_height()) * c.out_width() * c.outputs);
  check("batch", c.batch, 1, max_elements / image);
}

bool generated_code_allowed() {
  return core::cpu().isa != Isa::portable && jit::code_allowed();
}

// Null where the choice cannot compute the layer.
std::unique_ptr<Engine> make_engine(const Linear& linear, LinearWeights& weights, const std::string& choice,
                                    int threads, const PlanOptions& options) {
  if (linear.precision != Precision::fp32)
    return narrow_linear(linear, *weights.narrow(), options.copy ? *options.copy : Quantiser(), choice,
                         threads, options.features ? *options.features : core::features());
  PackedWeights& packed = *weights.packed();
  if (choice == "plain") return plain_linear(linear, packed, threads);
  if (!generated_code_allowed()) return nullptr;
  if (choice.starts_with("gemm ")) return gemm_linear(linear, packed, choice, threads);
  return onednn_linear(linear, packed, choice, threads);
}

std::unique_ptr<Engine> make_engine(const Convolution& c, ConvolutionWeights& weights,
                                    const std::string& choice, int threads, const PlanOptions&) {
  PackedWeights& packed = *weights.packed();
  if (choice == "plain") return plain_convolution(c, packed, threads);
  return generated_code_allowed() ? onednn_convolution(c, packed, choice, threads) : nullptr;
}

template <class Layer>
std::vector<std::string> list(const Layer& layer, int threads) {
  std::vector<std::string> all;
  if (generated_code_allowed()) {
    all = onednn_choices(layer, threads);
    if constexpr (std::is_same_v<Layer, Linear>) {
      std::vector<std::string> own = gemm_choices(layer);
      // Measured on AVX2 and AVX-512: on the shapes that networks have it is faster than the best primitive
      // or within a few per cent of it, most clearly on few rows. Its form of the weights is the same for any
      // number of rows besides.
      all.insert(all.begin(), own.begin(), own.end());
    }
  }
  all.push_back("plain");
  return all;
}

std::shared_ptr<LinearWeights> transposed(PackedWeights& packed, int threads) {
  const PackedWeights::Form plain = packed.plain(threads);  // [outputs][columns]
  const std::size_t outputs = packed.outputs(),
                    columns = std::size_t(packed.kernel_h()) * packed.kernel_w() * packed.inputs();
  core::Buffer<float> matrix(plain->size());
  for (std::size_t o = 0; o < outputs; o++)
    for (std::size_t c = 0; c < columns; c++) matrix[c * outputs + o] = (*plain)[o * columns + c];
  return std::make_shared<LinearWeights>(int(outputs), int(columns), std::span(matrix.begin(), matrix.end()),
                                         std::span<const float>{});
}

}  // namespace

LinearWeights::LinearWeights(int inputs, int outputs, std::span<const float> weights,
                             std::span<const float> bias, Precision precision) {
  if (precision == Precision::int8)
    fail(Status::invalid_argument, "dense layer: precision is int8, allowed are fp32, bf16 and bf16x3");
  if (precision == Precision::fp32) {
    packed_ = pack(inputs, outputs, 1, 1, weights, bias);
    return;
  }
  check_sizes(inputs, outputs, 1, 1, weights.size(), bias.size());
  narrow_ = std::make_shared<NarrowWeights>(outputs, inputs, precision, weights, bias);
}

LinearWeights::LinearWeights(int inputs, int outputs, const Int8Weights& weights) {
  check("inputs of an int8 layer", inputs, 1, longest_int8_sum);
  check_sizes(inputs, outputs, 1, 1, weights.values.size(), weights.bias.size());
  check("the number of biases", std::int64_t(weights.bias.size()), outputs, outputs);
  check("the number of multipliers", std::int64_t(weights.multiplier.size()), outputs, outputs);
  if (weights.input) check_quantiser("the input's quantiser", *weights.input, inputs);
  for (const std::int8_t value : weights.values) check("an int8 weight", value, -127, 127);
  narrow_ = std::make_shared<NarrowWeights>(outputs, inputs, weights);
}

LinearWeights::~LinearWeights() = default;
Precision LinearWeights::precision() const {
  return narrow_ ? narrow_->precision() : Precision::fp32;
}
int LinearWeights::inputs() const {
  return narrow_ ? narrow_->inputs() : packed_->inputs();
}
int LinearWeights::outputs() const {
  return narrow_ ? narrow_->outputs() : packed_->outputs();
}
bool LinearWeights::has_bias() const {
  return narrow_ ? narrow_->has_bias() : packed_->bias().size() > 0;
}
std::size_t LinearWeights::bytes() const {
  return narrow_ ? narrow_->bytes() : packed_->bytes();
}

ConvolutionWeights::ConvolutionWeights(int inputs, int outputs, int kernel_h, int kernel_w,
                                       std::span<const float> weights, std::span<const float> bias)
    : packed_(pack(inputs, outputs, kernel_h, kernel_w, weights, bias)) {}
ConvolutionWeights::~ConvolutionWeights() = default;
std::size_t ConvolutionWeights::bytes() const {
  return packed_->bytes();
}

std::shared_ptr<LinearWeights> transposed(const LinearWeights& weights, int threads) {
  return transposed(*weights.packed(), threads);
}
std::shared_ptr<LinearWeights> transposed(const ConvolutionWeights& weights, int threads) {
  return transposed(*weights.packed(), threads);
}

std::vector<std::string> candidates(const Linear& linear, int threads) {
  if (linear.precision != Precision::fp32) return narrow_choices(linear, threads, core::features());
  return list(linear, threads);
}
std::vector<std::string> candidates(const Convolution& c, int threads) {
  return list(c, threads);
}

template <class Layer, class Weights>
Plan::Plan(const Layer& layer, std::shared_ptr<Weights> weights, const PlanOptions& options) {
  check_layer(layer, *weights, options);
  const int threads = core::effective_threads(options.threads);
  if (options.choice) {
    choice_ = *options.choice;
    source_ = "forced";
  } else {
    tuner::Choice chosen = tuner::choose(question(layer, threads));
    choice_ = std::move(chosen.text);
    source_ = std::move(chosen.source);
  }
  engine_ = make_engine(layer, *weights, choice_, threads, options);
  if (!engine_) fail(Status::invalid_argument, "dense layer: choice '{}' cannot compute this layer", choice_);
  weights_ = std::move(weights);
}

Plan::~Plan() = default;
Plan::Plan(Plan&&) noexcept = default;
Plan& Plan::operator=(Plan&&) noexcept = default;
std::string Plan::implementation() const {
  return engine_->implementation();
}
std::size_t Plan::scratch_bytes() const {
  return engine_->scratch_bytes();
}
core::Prefetch Plan::prefetch() const {
  return engine_->prefetch();
}

LinearPlan::LinearPlan(const Linear& linear, std::shared_ptr<LinearWeights> weights,
                       const PlanOptions& options)
    : Plan(linear, std::move(weights), options), linear_(linear) {}

void LinearPlan::run(const LinearRun& r) const {
  const auto check_tensor = [](const char* name, bool given, bool wanted) {
    if (given != wanted)
      fail(Status::invalid_argument, "linear layer: {} is {}, but the layer has {}", name,
           given ? "given" : "null", wanted ? "one" : "none");
  };
  check_tensor("residual", r.residual != nullptr, linear_.residual);
  check_tensor("dst", r.dst != nullptr, linear_.result);
  check_tensor("copy", bool(r.copy), linear_.copy != Element::f32);
  check_tensor("src", bool(r.src), true);
  const auto check_type = [](const char* name_of, Element given, Element wanted) {
    if (given != wanted)
      fail(Status::invalid_argument, "linear layer: {} is {}, but the layer's is {}", name_of, name(given),
           name(wanted));
  };
  check_type("src", r.src.type(), linear_.src);
  if (r.copy) check_type("copy", r.copy.type(), linear_.copy);
  engine().run(r);
}

ConvolutionPlan::ConvolutionPlan(const Convolution& c, std::shared_ptr<ConvolutionWeights> weights,
                                 const PlanOptions& options)
    : Plan(c, std::move(weights), options), convolution_(c) {}

void ConvolutionPlan::run(const float* src, float* dst, void* scratch) const {
  engine().run({.src = src, .dst = dst, .scratch = scratch});
}

}  // namespace replk::dense
