#include "dense/choice.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <map>
#include <memory>
#include <random>
#include <utility>

#include "core/cpu.hpp"
#include "core/features.hpp"
#include "core/memory.hpp"
#include "dense/constants.hpp"
#include "dense/narrow_trial.hpp"
#include "dense/onednn/version.hpp"
#include "dense/plain.hpp"
#include "jit/kernels/samples.hpp"
#include "jit/x64/fingerprint.hpp"

namespace replk::dense {
namespace {

constexpr int kSamples = 200;
constexpr Element elements[] = {Element::f32,        Element::bf16,     Element::u8,
                                Element::bf16_tiles, Element::u8_tiles, Element::bf16x2_tiles};
// Part of every key, beside the fingerprint of the generators, the constants of the engines and oneDNN's
// version. To be raised when other code changes: what a choice's fields mean, or how it is run.
constexpr const char* kVersion = "2";

std::string suffix(bool bias, Activation activation, bool residual) {
  static const char* const activations[] = {"", "+relu", "+gelu"};
  return fmt::format("{}{}{}", bias ? "+bias" : "", activations[static_cast<int>(activation)],
                     residual ? "+residual" : "");
}

/// `+int8+from-u8+also-bf16`: in what it multiplies, what it is given, and what it writes beside or instead
/// of
/// (`+only-bf16`) fp32. Empty for fp32.
std::string types(const Linear& l) {
  std::string text;
  if (l.precision != Precision::fp32) text += fmt::format("+{}", name(l.precision));
  if (l.src != Element::f32) text += fmt::format("+from-{}", name(l.src));
  if (l.copy != Element::f32) text += fmt::format("+{}-{}", l.result ? "also" : "only", name(l.copy));
  return text;
}

/// What checks and data are made from (a linear layer: plain.hpp).
const Convolution& as_convolution(const Convolution& c) {
  return c;
}
bool has_residual(const Linear& l) {
  return l.residual;
}
bool has_residual(const Convolution&) {
  return false;
}

/// Seeded numbers of ordinary size, -1 to 1: zeros and denormals take other times than real data do.
core::Buffer<float> random_numbers(std::int64_t elements, std::uint32_t seed) {
  core::Buffer<float> buffer(static_cast<std::size_t>(elements));
  std::uint32_t state = seed;
  for (float& value : buffer) {
    state = state * 1664525u + 1013904223u;
    value = static_cast<float>(state >> 8) * 0x1p-23f - 1;
  }
  return buffer;
}

std::span<const float> view(const core::Buffer<float>& buffer) {
  return {buffer.data(), buffer.size()};
}

void run_plan(const LinearPlan& plan, const float* src, float* dst, void* scratch) {
  // In place, as networks do it; sums over many runs stay far from overflow.
  plan.run(src, dst, plan.linear().residual ? dst : nullptr, scratch);
}
void run_plan(const ConvolutionPlan& plan, const float* src, float* dst, void* scratch) {
  plan.run(src, dst, scratch);
}

LinearPlan make_plan(const Linear& l, std::shared_ptr<LinearWeights> w, const PlanOptions& options) {
  return {l, std::move(w), options};
}
ConvolutionPlan make_plan(const Convolution& c, std::shared_ptr<ConvolutionWeights> w,
                          const PlanOptions& options) {
  return {c, std::move(w), options};
}

std::shared_ptr<LinearWeights> make_weights(const Linear& l, std::span<const float> w,
                                            std::span<const float> bias) {
  return std::make_shared<LinearWeights>(l.inputs, l.outputs, w, bias);
}
std::shared_ptr<ConvolutionWeights> make_weights(const Convolution& c, std::span<const float> w,
                                                 std::span<const float> bias) {
  return std::make_shared<ConvolutionWeights>(c.inputs, c.outputs, c.kernel_h, c.kernel_w, w, bias);
}

/// Runs candidates of a layer on data of its own. Makes nothing before the first one is verified.
template <class Layer>
class Trial {
 public:
  Trial(const Layer& layer, int threads) : layer_(layer), shape_(as_convolution(layer_)), threads_(threads) {}

  bool verify(const std::string& choice) {
    if (!weights_) make_data();
    PlanOptions options;
    options.threads = threads_;
    options.choice = choice;
    const auto [at, fresh] = plans_.emplace(choice, make_plan(layer_, weights_, options));
    if (scratch_.size() < at->second.scratch_bytes())
      scratch_ = core::Buffer<char>(at->second.scratch_bytes());
    std::copy(residual_.begin(), residual_.end(), dst_.begin());
    run(choice);
    return std::all_of(samples_.begin(), samples_.end(), [&](const Sample& s) {
      const double got = dst_[static_cast<std::size_t>(s.at)];
      return std::abs(got - s.value) <= 1e-5 * s.magnitude;  // false for a NaN
    });
  }
  void run(const std::string& choice) {
    run_plan(plans_.at(choice), src_.data(), dst_.data(), scratch_.data());
  }
  void release(const std::string& choice) { plans_.erase(choice); }

 private:
  using Plan = decltype(make_plan(std::declval<Layer>(), nullptr, {}));
  struct Sample {
    std::int64_t at = 0;  // in dst
    double value = 0, magnitude = 0;
  };

  void make_data() {
    const Convolution& c = shape_;
    const std::int64_t pixels = c.batch * c.out_height() * c.out_width();
    const core::Buffer<float> weights =
        random_numbers(std::int64_t{c.outputs} * c.inputs * c.kernel_h * c.kernel_w, 1);
    const core::Buffer<float> bias = random_numbers(c.bias ? c.outputs : 0, 2);
    src_ = random_numbers(c.batch * c.height * c.width * c.inputs, 3);
    residual_ = random_numbers(pixels * c.outputs, 4);
    dst_ = core::Buffer<float>(residual_.size());
    std::mt19937_64 random(1);
    for (int i = 0; i < kSamples; i++) {
      const std::int64_t pixel = i == 0   ? 0
                                 : i == 1 ? pixels - 1
                                          : static_cast<std::int64_t>(random() % pixels);
      const int output = i % 3 == 0 ? c.outputs - 1 : static_cast<int>(random() % c.outputs);
      samples_.push_back(expected(weights, bias, pixel, output));
    }
    weights_ = make_weights(layer_, view(weights), view(bias));
  }

  Sample expected(const core::Buffer<float>& weights, const core::Buffer<float>& bias, std::int64_t pixel,
                  int output) {
    const Convolution& c = shape_;
    const std::int64_t area = std::int64_t{c.out_height()} * c.out_width(), image = pixel / area;
    const int row = static_cast<int>(pixel % area / c.out_width()),
              column = static_cast<int>(pixel % area % c.out_width());
    Sample s{pixel * c.outputs + output, c.bias ? bias[output] : 0.0, 1};
    for (int i = 0; i < c.inputs; i++)
      for (int a = 0; a < c.kernel_h; a++)
        for (int b = 0; b < c.kernel_w; b++) {
          const int y = row * c.stride_h - c.pad_h + a, x = column * c.stride_w - c.pad_w + b;
          if (y < 0 || y >= c.height || x < 0 || x >= c.width) continue;
          const double w =
              weights[((static_cast<std::size_t>(output) * c.inputs + i) * c.kernel_h + a) * c.kernel_w + b];
          const double product =
              w * src_[static_cast<std::size_t>(((image * c.height + y) * c.width + x) * c.inputs + i)];
          s.value += product;
          s.magnitude += std::abs(product);
        }
    if (c.activation == Activation::relu) s.value = std::max(s.value, 0.0);
    if (c.activation == Activation::gelu) s.value *= 0.5 * std::erfc(-s.value * std::sqrt(0.5));
    if (has_residual(layer_)) s.value += residual_[static_cast<std::size_t>(s.at)];
    return s;
  }

  Layer layer_;
  Convolution shape_;
  int threads_;
  decltype(make_weights(std::declval<Layer>(), {}, {})) weights_;
  core::Buffer<float> src_, dst_, residual_;
  core::Buffer<char> scratch_;
  std::vector<Sample> samples_;
  std::map<std::string, Plan> plans_;
};

std::string version() {
  return key_version(jit::values_of<Constants>);
}

tuner::Key key_of(const Linear& l, int threads) {
  // The best engine depends on the two channel counts; rows only repeat it.
  tuner::Key key = {
      to_string(l),
      {tuner::word("op", "linear"), tuner::number("rows", l.rows, 0.5), tuner::number("inputs", l.inputs),
       tuner::number("outputs", l.outputs), tuner::word("epilogue", suffix(l.bias, l.activation, l.residual)),
       tuner::word("isa", name(core::cpu().isa)), tuner::word("threads", std::to_string(threads)),
       tuner::word("version", version()), tuner::word("onednn", onednn_version())}};
  if (l.precision == Precision::fp32) return key;
  key.fields.push_back(tuner::word("precision", types(l)));
  key.fields.push_back(tuner::word("features", fmt::format("{:x}", core::features().bits())));
  return key;
}

tuner::Key key_of(const Convolution& c, int threads) {
  return {
      to_string(c),
      {tuner::word("op", "dense"), tuner::number("batch", c.batch, 0.25), tuner::number("inputs", c.inputs),
       tuner::number("outputs", c.outputs), tuner::number("height", c.height),
       tuner::number("width", c.width), tuner::word("kernel", fmt::format("{}x{}", c.kernel_h, c.kernel_w)),
       tuner::word("stride", fmt::format("{}x{}", c.stride_h, c.stride_w)),
       tuner::word("padding", fmt::format("{}x{}", c.pad_h, c.pad_w)),
       tuner::word("epilogue", suffix(c.bias, c.activation, false)),
       tuner::word("isa", name(core::cpu().isa)), tuner::word("threads", std::to_string(threads)),
       tuner::word("version", version()), tuner::word("onednn", onednn_version())}};
}

template <class Layer, class Judge>
tuner::Question ask(const Layer& layer, int threads) {
  tuner::Question q;
  q.key = key_of(layer, threads);
  std::vector<std::string> texts = candidates(layer, threads);
  // The plain GEMM comes last and is tens of times slower: measured only where it is alone.
  if (texts.size() > 1 && texts.back() == "plain") texts.pop_back();
  q.candidates = [texts, macs = layer.macs()] {
    std::vector<tuner::Candidate> all;
    for (std::size_t i = 0; i < texts.size(); i++) {
      // Nothing predicts these kernels; the list's order is the prediction, at 20 GFMA/s.
      all.push_back({texts[i], macs / 20e9 * (1 + 0.01 * static_cast<double>(i)), static_cast<int>(i)});
    }
    return all;
  };
  q.legal = [texts](const std::string& text) {
    return std::find(texts.begin(), texts.end(), text) != texts.end();
  };
  const auto trial = std::make_shared<Judge>(layer, threads);
  q.runner = {[trial](const std::string& text) { return trial->verify(text); },
              [trial](const std::string& text) { trial->run(text); },
              [trial](const std::string& text) { trial->release(text); }};
  return q;
}

/// Tries every epilogue on a layer whose sizes were read: what was printed is recognised by printing.
template <class Layer>
bool read_epilogue(std::string_view text, Layer& layer) {
  for (bool bias : {false, true})
    for (Activation activation : {Activation::none, Activation::relu, Activation::gelu}) {
      layer.bias = bias;
      layer.activation = activation;
      if (to_string(layer) == text) return true;
    }
  return false;
}

}  // namespace

std::string key_version(std::span<const std::int32_t> constants) {
  jit::Fingerprint fingerprint;
  fingerprint.add(jit::fingerprint(core::cpu().isa));
  fingerprint.add(constants);
  return fmt::format("{}.{:016x}", kVersion, fingerprint.value());
}

std::string to_string(const Linear& l) {
  return fmt::format("linear-r{}i{}o{}{}{}", l.rows, l.inputs, l.outputs,
                     suffix(l.bias, l.activation, l.residual), types(l));
}

std::string to_string(const Convolution& c) {
  return fmt::format("dense-n{}i{}o{}h{}w{}k{}x{}s{}x{}p{}x{}{}", c.batch, c.inputs, c.outputs, c.height,
                     c.width, c.kernel_h, c.kernel_w, c.stride_h, c.stride_w, c.pad_h, c.pad_w,
                     suffix(c.bias, c.activation, false));
}

std::optional<Linear> parse_linear(std::string_view text) {
  Linear l;
  long long rows = 0;
  if (text.size() > 200 ||
      std::sscanf(std::string(text).c_str(), "linear-r%15lldi%9do%9d", &rows, &l.inputs, &l.outputs) != 3)
    return std::nullopt;
  l.rows = rows;
  // A plain layer first: the rest is tried only where there is more to read.
  for (Precision precision : {Precision::fp32, Precision::bf16, Precision::bf16x3, Precision::int8})
    for (Element src : elements)
      for (Element copy : elements)
        for (bool result : {true, false})
          for (bool residual : {false, true}) {
            l.precision = precision;
            l.src = src;
            l.copy = copy;
            l.result = result;
            l.residual = residual;
            if ((result || copy != Element::f32) && text.ends_with(types(l)) && read_epilogue(text, l))
              return l;
          }
  return std::nullopt;
}

std::optional<Convolution> parse_convolution(std::string_view text) {
  Convolution c;
  long long batch = 0;
  if (text.size() > 200 ||
      std::sscanf(std::string(text).c_str(), "dense-n%15lldi%9do%9dh%9dw%9dk%9dx%9ds%9dx%9dp%9dx%9d", &batch,
                  &c.inputs, &c.outputs, &c.height, &c.width, &c.kernel_h, &c.kernel_w, &c.stride_h,
                  &c.stride_w, &c.pad_h, &c.pad_w) != 11)
    return std::nullopt;
  c.batch = batch;
  if (!read_epilogue(text, c)) return std::nullopt;
  return c;
}

tuner::Question question(const Linear& linear, int threads) {
  if (linear.precision != Precision::fp32) return ask<Linear, NarrowTrial>(linear, threads);
  return ask<Linear, Trial<Linear>>(linear, threads);
}
tuner::Question question(const Convolution& convolution, int threads) {
  return ask<Convolution, Trial<Convolution>>(convolution, threads);
}

}  // namespace replk::dense
