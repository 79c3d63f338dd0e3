// The kernel of products with narrow operands, every way of multiplying that this CPU has, against plain
// loops: sums of integers to the bit, others in double.
#include "jit/kernels/narrow_product.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <vector>

#include "core/fma.hpp"
#include "core/gelu.hpp"
#include "core/half.hpp"
#include "core/quantise.hpp"
#include "jit/kernels/samples.hpp"
#include "tests/jit/kernels/vectors.hpp"

namespace replk::jit {
namespace {

/// An operand: what the kernel reads, and the values that it stands for.
struct Operand {
  std::vector<unsigned char> bytes;
  std::vector<double> values;

  template <class T>
  void add(T stored, double value) {
    const std::size_t at = bytes.size();
    bytes.resize(at + sizeof stored);
    std::memcpy(&bytes[at], &stored, sizeof stored);
    values.push_back(value);
  }
};

Operand operand(NarrowDot dot, bool weights, std::size_t count, std::mt19937& random) {
  Operand all;
  std::uniform_real_distribution<float> noise(-1, 1);
  const int mean = sometimes(random) ? 100 : 0;  // of bytes: what would saturate sums of 16 bits
  for (std::size_t i = 0; i < count; i++) {
    const auto bf16 = core::from_float<core::Bf16>(noise(random));
    const int byte = weights ? between(random, mean - 128, 127) : between(random, mean, 255);
    if (dot == NarrowDot::fma)  // bf16, widened before
      all.add(core::to_float(bf16), core::to_float(bf16));
    else if (dot == NarrowDot::vdpbf16ps)
      all.add(bf16.bits, core::to_float(bf16));
    else if (weights)
      all.add(std::int8_t(byte), byte);
    else if (dot == NarrowDot::vpmaddwd)
      all.add(std::int16_t(byte), byte);
    else
      all.add(std::uint8_t(byte), byte);
  }
  return all;
}

std::vector<float> numbers(std::size_t count, float least, float most, std::mt19937& random) {
  std::vector<float> all(count);
  for (float& each : all) each = std::uniform_real_distribution<float>(least, most)(random);
  return all;
}

class NarrowProductTest : public KernelTest {
 protected:
  /// What the sums are to become; `magnitude` of the products that are in one.
  struct Expected {
    double value, limit;
  };

  /// Rows further apart than they are long; a long reduction in two parts where the spec is a first one.
  void expect_plain_loops(NarrowProductSpec spec, int steps, int tiles, std::mt19937& random) {
    const int group = narrow_group(spec.dot), panel = gemm_panel(spec.isa), rows = spec.rows * tiles,
              inputs = steps * group, stride = spec.columns + 3;
    const auto size = std::size_t(rows) * std::size_t(stride);
    const bool integers = sums_integers(spec.dot), parts = !spec.first || !spec.last;
    const int split = parts ? 2 : 1;
    std::vector<Operand> a, b;
    for (int part = 0; part < split; part++) {
      a.push_back(operand(spec.dot, false, std::size_t(rows * inputs), random));
      b.push_back(operand(spec.dot, true, std::size_t(inputs * panel), random));
    }
    std::vector<float> channels = numbers(std::size_t(narrow_channel_rows * panel), -1, 1, random);
    const auto channel = [&](NarrowChannelRow row, int j) -> float& {
      return channels[std::size_t(row * panel + j)];
    };
    for (int j = 0; j < panel; j++) {
      channel(multiplier_row, j) *= 1e-4f;
      channel(scale_row, j) = 40 + 10 * channel(scale_row, j);
      channel(offset_row, j) = 100 + 50 * channel(offset_row, j);
    }
    const std::vector<float> residual = numbers(size, -1, 1, random), before = numbers(size, 5, 6, random);
    std::vector<float> dst = before,
                       waiting(std::size_t(rows * panel), std::numeric_limits<float>::quiet_NaN());
    std::vector<std::uint16_t> copy(size, 0xabab);  // of bf16, or of bytes in its first half
    const std::int64_t element = std::int64_t(size_of(spec.outputs.copy));
    for (int part = 0; part < split; part++) {
      if (parts) spec.first = part == 0, spec.last = part == 1;
      NarrowProductArguments arguments{};
      arguments.a = a[std::size_t(part)].bytes.data();
      arguments.panel = b[std::size_t(part)].bytes.data();
      arguments.channels = channels.data();
      arguments.dst = dst.data();
      arguments.residual = residual.data();
      arguments.copy = copy.data();
      arguments.a_stride = 4 * steps;
      arguments.dst_stride = 4 * stride;
      arguments.copy_stride = element * stride;
      arguments.steps = steps;
      arguments.tiles = tiles;
      arguments.prefetch = arguments.panel;
      arguments.later = static_cast<const char*>(arguments.panel);
      arguments.waiting = waiting.data();
      call<NarrowProductKernel>(spec, &arguments);
    }
    const auto expected = [&](int r, int j) -> Expected {
      double sum = 0, magnitudes = 0;
      for (int part = 0; part < split; part++)
        for (int i = 0; i < inputs; i++) {
          const double product =
              a[std::size_t(part)].values[std::size_t(r * inputs + i)] *
              b[std::size_t(part)].values[std::size_t((i / group * panel + j) * group + i % group)];
          sum += product;
          magnitudes += std::abs(product);
        }
      const float shift = channel(bias_row, j), more = residual[std::size_t(r * stride + j)];
      if (integers) {
        float y = core::emulated_fma(float(sum), channel(multiplier_row, j), shift);
        if (spec.outputs.activation == Activation::relu) y = core::relu(y);
        if (spec.outputs.activation == Activation::gelu) y = core::narrow_gelu(y, core::emulated_fma);
        return {spec.outputs.residual ? y + more : y, 0};
      }
      // A rounding a product (two of pairs), and four more of what comes behind.
      double limit = rounding * (2 * inputs * split + 4) * (magnitudes + std::abs(shift) + std::abs(more));
      double y = sum + shift;
      if (spec.outputs.activation == Activation::relu) y = std::max(y, 0.0);
      if (spec.outputs.activation == Activation::gelu) {
        y *= 0.5 * std::erfc(-y * std::sqrt(0.5));
        limit = 1.13 * limit + 1.3e-4;  // its steepest slope, and its polynomial
      }
      return {spec.outputs.residual ? y + more : y, limit};
    };
    for (int r = 0; r < rows; r++)
      for (int j = 0; j < stride; j++) {
        const auto at = std::size_t(r * stride + j);
        const bool inside = j < spec.columns;
        const Expected wanted = inside ? expected(r, j) : Expected{};
        if (!inside || !spec.outputs.result)
          ASSERT_EQ(dst[at], before[at]) << spec.text() << " beside the results";
        else
          ASSERT_NEAR(dst[at], wanted.value, wanted.limit)
              << spec.text() << " steps " << steps << " row " << r << " column " << j;
        if (spec.outputs.copy == Element::f32) continue;
        if (!inside) {
          if (spec.outputs.copy == Element::u8)
            ASSERT_EQ(reinterpret_cast<const unsigned char*>(copy.data())[at], 0xab) << "beside the copy";
          else
            ASSERT_EQ(copy[at], 0xabab) << "beside the copy";
          continue;
        }
        if (spec.outputs.copy == Element::u8) {
          const int got = reinterpret_cast<const unsigned char*>(copy.data())[at];
          // Of sums of integers y is known to the bit; of others what is near a half may round either way.
          const int exact = core::quantise(float(wanted.value), channel(scale_row, j), channel(offset_row, j),
                                           core::emulated_fma);
          ASSERT_NEAR(got, exact, wanted.limit > 0 ? 1 : 0) << spec.text() << " copy";
        } else {
          const double got = core::to_float(core::Bf16{copy[at]});
          if (wanted.limit == 0)
            ASSERT_EQ(copy[at], core::from_float<core::Bf16>(float(wanted.value)).bits) << spec.text();
          else
            ASSERT_NEAR(got, wanted.value, wanted.limit + 0x1p-8 * (std::abs(wanted.value) + wanted.limit))
                << spec.text() << " copy";
        }
      }
  }
};

TEST_F(NarrowProductTest, GivesWhatThePlainLoopsDo) {
  const Features features = core::features() & features_beside(isa_);
  std::mt19937 random(1);
  std::vector<NarrowProductSpec> specs = NarrowProductSpec::samples(features);
  const std::size_t samples = specs.size();
  for (int i = 0; i < 60; i++) {
    NarrowProductSpec spec = specs[random() % samples];
    spec.rows = between(random, 1, gemm_max_rows(isa_));
    spec.columns = between(random, 1, gemm_panel(isa_));
    spec.outputs.activation = Activation(between(random, 0, 2));
    spec.outputs.residual = sometimes(random);
    spec.outputs.copy =
        sums_integers(spec.dot) ? Element(between(random, 0, 2)) : Element(between(random, 0, 1));
    spec.outputs.result = spec.outputs.copy == Element::f32 || sometimes(random);
    specs.push_back(spec);
  }
  for (const NarrowProductSpec& spec : specs)
    for (const int steps : {1, 3, 4, 9}) {
      expect_plain_loops(spec, steps, between(random, 1, 3), random);
      if (HasFatalFailure()) return;
    }
}

}  // namespace
}  // namespace replk::jit
