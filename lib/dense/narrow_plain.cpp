#include "dense/narrow_plain.hpp"

#include <algorithm>

#include "core/fma.hpp"
#include "core/gelu.hpp"
#include "core/half.hpp"
#include "core/quantise.hpp"
#include "core/threads.hpp"
#include "dense/constants.hpp"
#include "dense/operand.hpp"

namespace replk::dense {
namespace {

constexpr std::int64_t row_block = constants.narrow_rows;
constexpr int longest_chain = constants.narrow_chain;

float dot(const std::uint8_t* x, const std::int8_t* w, int count) {
  std::int32_t sum = 0;
  for (int i = 0; i < count; i++) sum += std::int32_t{x[i]} * w[i];
  return static_cast<float>(sum);
}

float dot(const core::Bf16* x, const core::Bf16* w, int count) {
  float total = 0;
  for (int from = 0; from < count; from += longest_chain) {
    float sum = 0;
    for (int i = from; i < std::min(count, from + longest_chain); i++)
      sum += core::to_float(x[i]) * core::to_float(w[i]);
    total += sum;
  }
  return total;
}

class NarrowPlain final : public Engine {
 public:
  NarrowPlain(const Linear& l, NarrowWeights& weights, const Quantiser& copy, int threads)
      : linear_(l),
        operand_(l.precision == Precision::int8 ? Operand::u8 : Operand::bf16),
        weights_(weights),
        form_(weights.plain()),
        copy_(copy),
        threads_(threads) {}

  std::string implementation() const override { return "plain"; }
  std::size_t scratch_bytes() const override {
    return linear_.src == Element::f32
               ? std::size_t(linear_.rows) * std::size_t(linear_.inputs) * size_of(operand_)
               : 0;
  }

  void run(const LinearRun& r) const override {
    core::parallel_for((linear_.rows + row_block - 1) / row_block, threads_, [&](std::int64_t block, int) {
      const std::int64_t first = block * row_block, rows = std::min(row_block, linear_.rows - first);
      const std::int64_t bytes = linear_.inputs * std::int64_t(size_of(operand_));
      const ConstValues src = r.src + first * linear_.inputs;
      const std::byte* x = src.bytes();
      if (src.type() == Element::f32) {
        auto* operand = static_cast<std::byte*>(r.scratch) + first * bytes;
        make_operand(operand_, src, rows, linear_.inputs, 1, weights_.input(), operand, bytes);
        x = operand;
      }
      for (std::int64_t row = first; row < first + rows; row++, x += bytes)
        for (int o = 0; o < linear_.outputs; o++) finish(r, row * linear_.outputs + o, o, sum(x, o));
    });
  }

 private:
  float sum(const std::byte* x, int o) const {
    const std::size_t at = std::size_t(o) * std::size_t(linear_.inputs);
    if (operand_ == Operand::u8)
      return dot(reinterpret_cast<const std::uint8_t*>(x),
                 reinterpret_cast<const std::int8_t*>(form_->data()) + at, linear_.inputs);
    return dot(reinterpret_cast<const core::Bf16*>(x),
               reinterpret_cast<const core::Bf16*>(form_->data()) + at, linear_.inputs);
  }

  void finish(const LinearRun& r, std::int64_t at, int o, float sum) const {
    float y = core::emulated_fma(sum, weights_.multiplier()[std::size_t(o)], weights_.bias()[std::size_t(o)]);
    if (linear_.activation == Activation::relu) y = core::relu(y);
    if (linear_.activation == Activation::gelu) y = core::narrow_gelu(y, core::emulated_fma);
    if (linear_.residual) y += r.residual[at];
    if (linear_.result) r.dst[at] = y;
    if (linear_.copy == Element::u8)
      r.copy.as<std::uint8_t>()[at] =
          core::quantise(y, copy_.scale[std::size_t(o)], copy_.offset[std::size_t(o)], core::emulated_fma);
    if (linear_.copy == Element::bf16) r.copy.as<core::Bf16>()[at] = core::from_float<core::Bf16>(y);
  }

  Linear linear_;
  Operand operand_;
  NarrowWeights& weights_;
  NarrowWeights::Form form_;
  Quantiser copy_;
  int threads_;
};

}  // namespace

std::unique_ptr<Engine> narrow_plain(const Linear& linear, NarrowWeights& weights, const Quantiser& copy,
                                     int threads) {
  return std::make_unique<NarrowPlain>(linear, weights, copy, threads);
}

}  // namespace replk::dense
