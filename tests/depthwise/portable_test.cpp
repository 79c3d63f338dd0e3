#include "depthwise/portable/portable.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>

#include "core/fma.hpp"
#include "core/gelu.hpp"
#include "tests/depthwise/case.hpp"

namespace replk::depthwise {
namespace {

constexpr float infinity = std::numeric_limits<float>::infinity();
constexpr float nan = std::numeric_limits<float>::quiet_NaN();

float random_bits(std::mt19937_64& random) {
  return std::bit_cast<float>(static_cast<std::uint32_t>(random()));
}

/// Equal bits, or both NaN.
bool same(float a, float b) {
  return std::isnan(a) ? std::isnan(b) : std::bit_cast<std::uint32_t>(a) == std::bit_cast<std::uint32_t>(b);
}

TEST(Fma, EmulatedHasTheBitsOfTheFusedOne) {
  std::mt19937_64 random(1);
  for (int i = 0; i < 2000000; i++) {
    const float a = random_bits(random), b = random_bits(random);
    // Half of the addends near the product, where rounding twice would show.
    const float c = i % 2 ? random_bits(random) : -a * b * (1 + static_cast<float>(random() % 3) * 0x1p-23f);
    ASSERT_TRUE(same(core::emulated_fma(a, b, c), std::fma(a, b, c))) << a << ' ' << b << ' ' << c;
  }
  // Ties: a product of 24 odd bits each, an addend a power of two that puts its last bits at the tie.
  for (int i = 0; i < 1000000; i++) {
    const float a = static_cast<float>(random() % (1 << 24) | 1),
                b = static_cast<float>(random() % (1 << 13) | 1);
    const float c = std::ldexp(static_cast<float>(random() % 3) - 1, static_cast<int>(random() % 70));
    ASSERT_TRUE(same(core::emulated_fma(a, b, c), std::fma(a, b, c))) << a << ' ' << b << ' ' << c;
  }
}

/// What bits of IEEE 754's binary16 mean, but for its NaNs. Not the compiler's _Float16: Clang 14 has none
/// here.
double half_value(std::uint16_t bits) {
  const int exponent = bits >> 10 & 31, mantissa = bits & 1023;
  const double magnitude = exponent == 31 ? HUGE_VAL
                           : exponent     ? std::ldexp(1024 + mantissa, exponent - 25)
                                          : std::ldexp(mantissa, -24);
  return bits >> 15 ? -magnitude : magnitude;
}

/// The binary16 nearest to a value, the even one of two; from halfway beyond the largest on, infinite.
double nearest_half(float value) {
  if (std::abs(value) >= 65520) return std::copysign(HUGE_VAL, value);
  int exponent = 0;
  std::frexp(value, &exponent);
  const int last = std::max(exponent - 11, -24);  // of the bits that a half has
  return std::ldexp(std::nearbyint(std::ldexp(double{value}, -last)), last);
}

TEST(Half, NarrowsToNearestEvenAndBack) {
  for (std::uint32_t bits = 0; bits < 65536; bits++) {
    const core::F16 half{static_cast<std::uint16_t>(bits)};
    const core::Bf16 brain{static_cast<std::uint16_t>(bits)};
    if (!std::isnan(core::to_float(half))) {
      ASSERT_EQ(core::from_float<core::F16>(core::to_float(half)).bits, bits);
      ASSERT_EQ(core::to_float(half), half_value(half.bits));
    }
    if (!std::isnan(core::to_float(brain))) {
      ASSERT_EQ(core::from_float<core::Bf16>(core::to_float(brain)).bits, bits);
    }
  }
  std::mt19937_64 random(1);
  for (int i = 0; i < 2000000; i++) {
    // Any bits, and the same mantissa where half's range begins and ends.
    const float x = random_bits(random);
    int exponent = 0;
    const float fraction = std::frexp(x, &exponent);
    for (float value :
         {x, fraction, std::ldexp(fraction, -14), std::ldexp(fraction, -24), std::ldexp(fraction, 16)}) {
      const core::F16 half = core::from_float<core::F16>(value);
      if (std::isnan(value))
        ASSERT_TRUE(std::isnan(core::to_float(half)));
      else
        ASSERT_TRUE(same(static_cast<float>(half_value(half.bits)), static_cast<float>(nearest_half(value))))
            << value << ' ' << half.bits;
    }
  }
}

TEST(Gelu, IsWithinItsBound) {
  const auto fused = [](float a, float b, float c) { return std::fma(a, b, c); };
  double worst = 0;
  for (double x = -20; x <= 20; x += 1.7e-5) {
    const auto value = static_cast<float>(x);
    const double exact = 0.5 * value * std::erfc(-value * std::sqrt(0.5));
    worst = std::max(worst, std::fabs(core::gelu(value, fused) - exact) / std::max(1.0, std::fabs(x)));
  }
  EXPECT_LE(worst, 1e-7);
  EXPECT_EQ(core::gelu(infinity, fused), infinity);
  EXPECT_EQ(core::gelu(-infinity, fused), 0.0f);
  EXPECT_EQ(core::gelu(-1e30f, fused), 0.0f);
  EXPECT_TRUE(std::isnan(core::gelu(nan, fused)));
  EXPECT_TRUE(std::isnan(core::relu(nan)));
  EXPECT_EQ(core::relu(-infinity), 0.0f);
}

/// What the class exact may be off, per output: fp32 rounds each of n fused steps, so the error is at most
/// n u / (1 - n u) times |bias| + sum |w x| (Higham, Accuracy and Stability, section 3.1), one u more for
/// weights rounded by the merge; an activation stretches it by at most 1.13 and GELU adds 1e-7 max(1, |x|);
/// the residual's addition rounds once; storage rounds by half a unit in the last place.
std::vector<double> bounds(const Case& c, std::span<const Sample> samples, std::span<const double> expected) {
  Case magnitudes(c.problem, 1);
  magnitudes.problem.epilogue = {true, Activation::none, false};
  for (std::size_t i = 0; i < c.branch_weights.size(); i++)
    for (std::size_t j = 0; j < c.branch_weights[i].size(); j++)
      magnitudes.branch_weights[i][j] = std::fabs(c.branch_weights[i][j]);
  for (std::size_t i = 0; i < c.bias.size(); i++)
    magnitudes.bias[i] = c.problem.epilogue.bias ? std::fabs(c.bias[i]) : 0;
  for (std::int64_t i = 0; i < c.src.elements(); i++) magnitudes.src.set(i, std::fabs(c.src.get(i)));
  const auto sums = reference(magnitudes.problem, magnitudes.weights, magnitudes.bias,
                              {magnitudes.src.data(), nullptr, nullptr}, samples);
  double steps = 2;
  for (const Branch& b : c.problem.branches) steps += b.taps();
  const double u = 0x1p-24, growth = steps * u / (1 - steps * u);
  const double storage = c.problem.type == DataType::f32    ? u
                         : c.problem.type == DataType::bf16 ? 0x1p-8
                                                            : 0x1p-11;
  std::vector<double> result;
  for (std::size_t i = 0; i < samples.size(); i++) {
    double bound = growth * sums[i];
    if (c.problem.epilogue.activation == Activation::gelu)
      bound = 1.13 * bound + 1e-7 * std::max(1.0, sums[i]);
    if (c.problem.epilogue.residual) bound = (1 + u) * bound + u * std::fabs(expected[i]);
    result.push_back((1 + storage) * bound + storage * std::fabs(expected[i]) + 0x1p-25);
  }
  return result;
}

TEST(Portable, IsWithinTheDerivedBoundOfTheDoubleReference) {
  for (std::uint64_t seed = 0; seed < 240; seed++) {
    const Case c(random_problem(seed), seed);
    SCOPED_TRACE(to_string(c.problem));
    Storage dst = c.run(portable_options());
    const auto samples = all_outputs(c.problem);
    const auto expected = reference(c.problem, c.weights, c.bias, c.tensors(dst), samples);
    const auto allowed = bounds(c, samples, expected);
    const int height = c.problem.out_height(), width = c.problem.out_width(), channels = c.problem.channels;
    for (std::size_t i = 0; i < samples.size(); i++) {
      const Sample& s = samples[i];
      const std::int64_t at = c.problem.layout == Layout::nhwc
                                  ? ((s.image * height + s.row) * width + s.column) * channels + s.channel
                                  : ((s.image * channels + s.channel) * height + s.row) * width + s.column;
      ASSERT_LE(std::fabs(dst.get(at) - expected[i]), allowed[i]) << "output " << i << " is " << dst.get(at);
    }
    EXPECT_LE(compare(c.problem, c.weights, c.bias, c.tensors(dst), samples, expected).max_of_allowed, 1.5);
  }
}

TEST(Portable, ThreadsDoNotChangeBits) {
  for (std::uint64_t seed = 0; seed < 40; seed++) {
    const Case c(random_problem(seed), seed);
    const Storage one = c.run(portable_options(1));
    for (int threads = 2; threads <= 4; threads++)
      EXPECT_EQ(differing(one, c.run(portable_options(threads))), 0) << to_string(c.problem);
  }
}

TEST(Portable, ANanReachesOnlyWhatItsTapsReach) {
  Case c("n1c5h9w9k3exact");
  c.src.set((4 * 9 + 4) * 5 + 2, nan);
  const Storage dst = c.run(portable_options());
  for (int y = 0; y < 9; y++)
    for (int x = 0; x < 9; x++)
      for (int channel = 0; channel < 5; channel++)
        EXPECT_EQ(std::isnan(dst.get((y * 9 + x) * 5 + channel)),
                  channel == 2 && y >= 3 && y <= 5 && x >= 3 && x <= 5);
}

TEST(Portable, ResidualMayBeTheOutput) {
  const Case c("n1c5h9w9k3exact+residual");
  const Storage apart = c.run(portable_options());
  const Plan plan(c.problem, c.weights, c.bias, portable_options());
  Storage both(c.problem.output_type(), c.problem.output_elements());
  std::memcpy(both.data(), c.residual.data(), both.bytes());
  plan.run({c.src.data(), both.data(), both.data()});
  EXPECT_EQ(differing(apart, both), 0);
}

}  // namespace
}  // namespace replk::depthwise
