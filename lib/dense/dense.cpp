#include "dense/dense.hpp"

#include <algorithm>
#include <type_traits>
#include <utility>

#include "core/cpu.hpp"
#include "core/error.hpp"
#include "core/threads.hpp"
#include "dense/choice.hpp"
#include "dense/engine.hpp"
#include "dense/gemm.hpp"
#include "dense/onednn.hpp"
#include "dense/plain.hpp"
#include "dense/weights.hpp"
#include "jit/code.hpp"

namespace replk::dense {
namespace {

using core::fail;
using core::Status;

constexpr std::int64_t max_channels = 1 << 20, max_extent = 1 << 16;
constexpr std::int64_t max_elements = std::int64_t{1}
                                      << 31;  // of a tensor: oneDNN's kernels count in 32 bits

void check(const char* field, std::int64_t value, std::int64_t low, std::int64_t high) {
  if (value < low || value > high)
    fail(Status::invalid_argument, "dense layer: {} is {}, allowed are {} to {}", field, value, low, high);
}

std::shared_ptr<PackedWeights> pack(int inputs, int outputs, int kernel_h, int kernel_w,
                                    std::span<const float> weights, std::span<const float> bias) {
  check("inputs", inputs, 1, max_channels);
  check("outputs", outputs, 1, max_channels);
  check("kernel_h", kernel_h, 1, 63);
  check("kernel_w", kernel_w, 1, 63);
  const std::int64_t wanted = std::int64_t(inputs) * outputs * kernel_h * kernel_w;
  check("the number of weights", std::int64_t(weights.size()), wanted, wanted);
  if (!bias.empty()) check("the number of biases", std::int64_t(bias.size()), outputs, outputs);
  return std::make_shared<PackedWeights>(outputs, inputs, kernel_h, kernel_w, weights, bias);
}

void check_weights(const PackedWeights& w, int inputs, int outputs, int kernel_h, int kernel_w, bool bias) {
  check("inputs", inputs, w.inputs(), w.inputs());
  check("outputs", outputs, w.outputs(), w.outputs());
  check("kernel_h", kernel_h, w.kernel_h(), w.kernel_h());
  check("kernel_w", kernel_w, w.kernel_w(), w.kernel_w());
  if (bias != (w.bias().size() > 0))
    fail(Status::invalid_argument, "dense layer: bias is {}, but its weights came {} one", bias,
         bias ? "without" : "with");
}

bool generated_code_allowed() {
  return core::cpu().isa != Isa::portable && jit::code_allowed();
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

template <class Layer>
void pick(const Layer& layer, int threads, const PlanOptions& options, std::string& choice,
          std::string& source) {
  if (options.choice) {
    choice = *options.choice;
    source = "forced";
  } else {
    tuner::Choice chosen = tuner::choose(question(layer, threads));
    choice = std::move(chosen.text);
    source = std::move(chosen.source);
  }
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
                             std::span<const float> bias)
    : packed_(pack(inputs, outputs, 1, 1, weights, bias)) {}
LinearWeights::~LinearWeights() = default;
int LinearWeights::inputs() const {
  return packed_->inputs();
}
int LinearWeights::outputs() const {
  return packed_->outputs();
}
bool LinearWeights::has_bias() const {
  return packed_->bias().size() > 0;
}
std::size_t LinearWeights::bytes() const {
  return packed_->bytes();
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
  return list(linear, threads);
}
std::vector<std::string> candidates(const Convolution& c, int threads) {
  return list(c, threads);
}

LinearPlan::LinearPlan(const Linear& linear, std::shared_ptr<LinearWeights> weights,
                       const PlanOptions& options)
    : linear_(linear) {
  PackedWeights& packed = *weights->packed();
  check("rows", linear.rows, 1, max_elements / std::max(packed.inputs(), packed.outputs()));
  check_weights(packed, linear.inputs, linear.outputs, 1, 1, linear.bias);
  const int threads = core::effective_threads(options.threads);
  pick(linear, threads, options, choice_, source_);
  if (choice_ == "plain")
    engine_ = plain_linear(linear, packed, threads);
  else if (generated_code_allowed() && choice_.starts_with("gemm "))
    engine_ = gemm_linear(linear, packed, choice_, threads);
  else if (generated_code_allowed())
    engine_ = onednn_linear(linear, packed, choice_, threads);
  if (!engine_) fail(Status::invalid_argument, "dense layer: choice '{}' cannot compute this layer", choice_);
  weights_ = std::move(weights);
}

LinearPlan::~LinearPlan() = default;
LinearPlan::LinearPlan(LinearPlan&&) noexcept = default;
LinearPlan& LinearPlan::operator=(LinearPlan&&) noexcept = default;
std::string LinearPlan::implementation() const {
  return engine_->implementation();
}
std::size_t LinearPlan::scratch_bytes() const {
  return engine_->scratch_bytes();
}

void LinearPlan::run(const float* src, float* dst, const float* residual, void* scratch,
                     std::span<const std::byte> next) const {
  if ((residual != nullptr) != linear_.residual)
    fail(Status::invalid_argument, "linear layer: residual is {}, but the layer has {}",
         residual ? "given" : "null", linear_.residual ? "one" : "none");
  engine_->run(src, dst, residual, scratch, next);
}

ConvolutionPlan::ConvolutionPlan(const Convolution& c, std::shared_ptr<ConvolutionWeights> weights,
                                 const PlanOptions& options)
    : convolution_(c) {
  PackedWeights& packed = *weights->packed();
  check_weights(packed, c.inputs, c.outputs, c.kernel_h, c.kernel_w, c.bias);
  check("stride_h", c.stride_h, 1, 63);
  check("stride_w", c.stride_w, 1, 63);
  check("pad_h", c.pad_h, 0, c.kernel_h - 1);
  check("pad_w", c.pad_w, 0, c.kernel_w - 1);
  check("height", c.height, std::max(1, c.kernel_h - 2 * c.pad_h), max_extent);
  check("width", c.width, std::max(1, c.kernel_w - 2 * c.pad_w), max_extent);
  const std::int64_t image = std::max(std::int64_t(c.height) * c.width * c.inputs,
                                      std::int64_t(c.out_height()) * c.out_width() * c.outputs);
  check("batch", c.batch, 1, max_elements / image);
  const int threads = core::effective_threads(options.threads);
  pick(c, threads, options, choice_, source_);
  if (choice_ == "plain")
    engine_ = plain_convolution(c, packed, threads);
  else if (generated_code_allowed())
    engine_ = onednn_convolution(c, packed, choice_, threads);
  if (!engine_)
    fail(Status::invalid_argument, "dense convolution: choice '{}' cannot compute this layer", choice_);
  weights_ = std::move(weights);
}

ConvolutionPlan::~ConvolutionPlan() = default;
ConvolutionPlan::ConvolutionPlan(ConvolutionPlan&&) noexcept = default;
ConvolutionPlan& ConvolutionPlan::operator=(ConvolutionPlan&&) noexcept = default;
std::string ConvolutionPlan::implementation() const {
  return engine_->implementation();
}
std::size_t ConvolutionPlan::scratch_bytes() const {
  return engine_->scratch_bytes();
}
void ConvolutionPlan::run(const float* src, float* dst, void* scratch) const {
  engine_->run(src, dst, nullptr, scratch, {});
}

}  // namespace replk::dense
