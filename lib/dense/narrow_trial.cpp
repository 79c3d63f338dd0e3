#include "dense/narrow_trial.hpp"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <optional>
#include <random>

#include "core/fma.hpp"
#include "core/half.hpp"
#include "core/quantise.hpp"
#include "core/tile_order.hpp"

namespace replk::dense {
namespace {

constexpr int sample_count = 200;

/// Seeded numbers from -1 to 1: zeros and denormals take other times than real data do.
class Numbers {
 public:
  explicit Numbers(std::uint32_t seed) : state_(seed) {}
  float next() {
    state_ = state_ * 1664525u + 1013904223u;
    return static_cast<float>(state_ >> 8) * 0x1p-23f - 1;
  }

 private:
  std::uint32_t state_;
};

float bf16(float x) {
  return core::to_float(core::from_float<core::Bf16>(x));
}

/// A tensor's value in memory, by the definitions of its type and order.
class Places {
 public:
  Places(std::int64_t rows, std::int64_t channels, Element type)
      : channels_(channels), size_(std::int64_t(size_of(type))) {
    if (in_tiles(type)) order_.emplace(rows, channels, type);
  }
  std::int64_t of(std::int64_t row, std::int64_t channel) const {
    return order_ ? order_->offset(row, channel) : (row * channels_ + channel) * size_;
  }

 private:
  std::int64_t channels_, size_;
  std::optional<core::TileOrder> order_;
};

void put_bf16(float x, std::byte* to) {
  const core::Bf16 half = core::from_float<core::Bf16>(x);
  std::memcpy(to, &half, sizeof half);
}
float bf16_at(const std::byte* from) {
  core::Bf16 half;
  std::memcpy(&half, from, sizeof half);
  return core::to_float(half);
}

}  // namespace

void NarrowTrial::make_data() {
  const bool int8 = linear_.precision == Precision::int8;
  const std::size_t inputs = std::size_t(linear_.inputs), outputs = std::size_t(linear_.outputs);
  Numbers numbers(1);
  values_.resize(inputs * outputs);
  for (float& value : values_) value = int8 ? std::round(127 * numbers.next()) : numbers.next();
  bias_.resize(linear_.bias || int8 ? outputs : 0);
  for (float& value : bias_) value = numbers.next();
  multiplier_.assign(outputs, int8 ? 1 / (127.0f * 64 * std::sqrt(float(inputs))) : 1.0f);
  quantiser_ = {std::vector<float>(inputs, 127.0f), std::vector<float>(inputs, 128.0f)};
  copy_quantiser_ = {std::vector<float>(outputs, 31.0f), std::vector<float>(outputs, 100.0f)};
  const std::size_t elements = std::size_t(linear_.rows) * inputs;
  operand_ = core::Buffer<float>(elements);
  src_ = core::Buffer<std::byte>(core::tensor_bytes(linear_.rows, linear_.inputs, linear_.src), true);
  const Places places(linear_.rows, linear_.inputs, linear_.src);
  for (std::size_t i = 0; i < elements; i++) {
    const float x = numbers.next();
    const std::uint8_t q = core::quantise(x, 127.0f, 128.0f, core::emulated_fma);
    // bf16x3 keeps nearly all of x: held against one rounded to bf16, none of its candidates would be right.
    operand_[i] = int8 ? float(q) : linear_.precision == Precision::bf16 ? bf16(x) : x;
    std::byte* const to = src_.data() + places.of(std::int64_t(i / inputs), std::int64_t(i % inputs));
    if (linear_.src == Element::f32)
      std::memcpy(to, &x, sizeof x);
    else if (without_order(linear_.src) == Element::u8)
      *to = std::byte(q);
    else
      put_bf16(x, to);
    if (linear_.src == Element::bf16x2_tiles) put_bf16(x - bf16(x), to + core::TileOrder::line);
  }
  const std::size_t results = std::size_t(linear_.rows) * outputs;
  residual_ = core::Buffer<float>(linear_.residual ? results : 0);
  for (float& value : residual_) value = numbers.next();
  dst_ = core::Buffer<float>(linear_.result || linear_.residual ? results : 0);
  copy_ = core::Buffer<std::byte>(
      linear_.copy == Element::f32 ? 0 : core::tensor_bytes(linear_.rows, linear_.outputs, linear_.copy));
  if (int8) {
    const std::vector<std::int8_t> narrow(values_.begin(), values_.end());
    weights_ = std::make_shared<LinearWeights>(linear_.inputs, linear_.outputs,
                                               Int8Weights{narrow, multiplier_, bias_, &quantiser_});
  } else {
    weights_ =
        std::make_shared<LinearWeights>(linear_.inputs, linear_.outputs, values_, bias_, linear_.precision);
    if (linear_.precision == Precision::bf16)
      for (float& value : values_) value = bf16(value);
  }
  std::mt19937_64 random(1);
  for (int i = 0; i < sample_count; i++) {
    const std::int64_t row = i == 0 ? 0 : i == 1 ? linear_.rows - 1 : std::int64_t(random() % linear_.rows);
    samples_.push_back(expected(row, i % 3 == 0 ? linear_.outputs - 1 : int(random() % linear_.outputs)));
  }
}

NarrowTrial::Sample NarrowTrial::expected(std::int64_t row, int output) const {
  Sample s{row * linear_.outputs + output, 0, 1};
  const std::size_t inputs = std::size_t(linear_.inputs);
  for (std::size_t i = 0; i < inputs; i++) {
    const double product = double(operand_[std::size_t(row) * inputs + i]) *
                           values_[std::size_t(output) * inputs + i] * multiplier_[std::size_t(output)];
    s.value += product;
    s.magnitude += std::abs(product);
  }
  if (!bias_.empty()) s.value += bias_[std::size_t(output)];
  if (linear_.activation == Activation::relu) s.value = std::max(s.value, 0.0);
  if (linear_.activation == Activation::gelu) s.value *= 0.5 * std::erfc(-s.value * std::sqrt(0.5));
  if (linear_.residual) s.value += residual_[std::size_t(s.at)];
  return s;
}

bool NarrowTrial::right(const Sample& s) const {
  // GELU's polynomial is within 1.3e-4, the operands of bf16x3 within 2^-16 of fp32 each.
  const double limit = 1e-5 * s.magnitude + (linear_.activation == Activation::gelu ? 1.5e-4 : 0) +
                       (linear_.precision == Precision::bf16x3 ? 5e-5 * s.magnitude : 0);
  const std::size_t at = std::size_t(s.at);
  if (linear_.result && !(std::abs(dst_[at] - s.value) <= limit)) return false;
  if (linear_.copy == Element::f32) return true;
  const std::byte* const copied =
      copy_.data() +
      Places(linear_.rows, linear_.outputs, linear_.copy).of(s.at / linear_.outputs, s.at % linear_.outputs);
  if (without_order(linear_.copy) == Element::bf16)
    if (!(std::abs(bf16_at(copied) - s.value) <= limit + std::abs(s.value) * 0x1p-8)) return false;
  if (linear_.copy == Element::bf16x2_tiles) {
    const double got = double(bf16_at(copied)) + bf16_at(copied + core::TileOrder::line);
    if (!(std::abs(got - s.value) <= limit + std::abs(s.value) * 0x1p-16)) return false;
  }
  if (without_order(linear_.copy) == Element::u8) {
    const double got = double(std::to_integer<int>(*copied));
    const double wanted = std::clamp(s.value * 31 + 100, 0.0, 255.0);
    if (!(std::abs(got - wanted) <= 0.5 + 31 * limit)) return false;
  }
  return true;
}

bool NarrowTrial::verify(const std::string& choice) {
  if (!weights_) make_data();
  PlanOptions options;
  options.threads = threads_;
  options.choice = choice;
  options.copy = &copy_quantiser_;
  const auto [at, fresh] = plans_.emplace(choice, LinearPlan(linear_, weights_, options));
  if (scratch_.size() < at->second.scratch_bytes())
    scratch_ = core::Buffer<std::byte>(at->second.scratch_bytes());
  std::copy(residual_.begin(), residual_.end(), dst_.begin());
  run(choice);
  return std::all_of(samples_.begin(), samples_.end(), [&](const Sample& s) { return right(s); });
}

void NarrowTrial::run(const std::string& choice) {
  // The residual in place, as networks have it; sums over many runs stay far from overflow.
  plans_.at(choice).run({{src_.data(), linear_.src},
                         linear_.result ? dst_.data() : nullptr,
                         {copy_.size() ? copy_.data() : nullptr, linear_.copy},
                         linear_.residual ? dst_.data() : nullptr,
                         scratch_.data(),
                         {}});
}

}  // namespace replk::dense
