// What makes rows of a tile product's operand, against the roundings of core, to the bit; rows end at
// inaccessible pages.
#include "jit/kernels/tile_operand.hpp"

#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <vector>

#include "core/fma.hpp"
#include "core/half.hpp"
#include "core/quantise.hpp"
#include "jit/kernels/tile_product.hpp"
#include "tests/jit/kernels/vectors.hpp"

namespace replk::jit {
namespace {

using core::Bf16;

/// Signs, magnitudes from tiny to huge, halves exactly between two neighbours; no denormals, which
/// AVX512_BF16 takes for zeros.
float any_float(std::mt19937& random) {
  float x = std::ldexp(std::uniform_real_distribution<float>(-2, 2)(random), between(random, -8, 8));
  if (random() % 4 == 0) {
    std::uint32_t bits = 0;
    std::memcpy(&bits, &x, 4);
    bits = (bits & 0xffff0000u) | 0x8000u;
    std::memcpy(&x, &bits, 4);
  }
  return random() % 50 == 0 ? std::copysign(1e30f, x) : x;
}

void expect_rounded(TileOperandSpec spec, std::mt19937& random) {
  const bool int8 = spec.precision == Precision::int8, three = spec.precision == Precision::bf16x3;
  const int rows = between(random, 1, 3), step = tile_step(spec.precision),
            steps = (spec.inputs + step - 1) / step,
            element = spec.from_fp32 ? 4
                      : int8         ? 1
                                     : 2;
  const int src_row = spec.inputs * element, dst_row = steps * tile_step_bytes(spec.precision);
  const test::Guarded src(std::size_t(rows * src_row), test::Side::end),
      dst(std::size_t(rows * dst_row), test::Side::end), scale(std::size_t(spec.inputs) * 4, test::Side::end),
      offset(std::size_t(spec.inputs) * 4, test::Side::end);
  for (int i = 0; i < spec.inputs; i++) {
    scale.as<float>()[i] = float(between(random, 1, 40));
    offset.as<float>()[i] = float(between(random, 0, 255));
  }
  for (int i = 0; i < rows * spec.inputs; i++)
    if (spec.from_fp32)
      src.as<float>()[i] = any_float(random);
    else
      for (int byte = 0; byte < element; byte++)
        src.as<unsigned char>()[i * element + byte] = random() & 0xff;
  // Rows one behind the other, the steps of each as well.
  TileOperandArguments arguments{src.as(),          dst.as(),          rows,
                                 src_row,           dst_row,           tile_step_bytes(spec.precision),
                                 scale.as<float>(), offset.as<float>()};
  call<TileOperandKernel>(spec, static_cast<const TileOperandArguments*>(&arguments));
  ASSERT_TRUE(dst.intact()) << spec.text();

  const auto got = [&](int r, int line, int byte) {
    return dst.as<unsigned char>()[r * dst_row + line * tile_line + byte];
  };
  const auto expect = [&](int r, int line, int i, std::uint16_t bits, int bytes) {
    for (int byte = 0; byte < bytes; byte++)
      ASSERT_EQ(got(r, line, i * bytes + byte), bits >> 8 * byte & 0xff)
          << spec.text() << " row " << r << " line " << line << " place " << i;
  };
  const int lines = three ? 2 : 1, bytes = int8 ? 1 : 2;
  for (int r = 0; r < rows; r++)
    for (int i = 0; i < steps * step; i++) {
      const int line = i / step * lines, place = i % step, at = r * spec.inputs + i;
      std::uint16_t first = 0, second = 0;
      if (i < spec.inputs && !spec.from_fp32) {
        std::memcpy(&first, src.as<unsigned char>() + at * element, std::size_t(element));
      } else if (i < spec.inputs) {
        const float x = src.as<float>()[at];
        const Bf16 high = core::from_float<Bf16>(x);
        first = int8 ? core::quantise(x, scale.as<float>()[i], offset.as<float>()[i], core::emulated_fma)
                     : high.bits;
        second = core::from_float<Bf16>(x - core::to_float(high)).bits;
      }
      expect(r, line, place, first, bytes);
      if (three) expect(r, line + 1, place, second, bytes);
      if (testing::Test::HasFatalFailure()) return;
    }
}

using TileOperandTest = KernelTest;

TEST_F(TileOperandTest, GivesTheRoundedRows) {
  if (isa_ != Isa::avx512) GTEST_SKIP() << "tile operands are made with AVX-512";
  std::mt19937 random(1);
  const bool can_round = core::features().has(Feature::avx512_bf16);
  for (const Precision precision : {Precision::bf16, Precision::bf16x3, Precision::int8})
    for (const bool from_fp32 : {true, false}) {
      if (!from_fp32 && precision == Precision::bf16x3) continue;  // what has two parts comes from fp32
      for (int round = 0; round < 40; round++) {
        expect_rounded({precision, from_fp32, between(random, 1, 200), can_round && sometimes(random)},
                       random);
        if (HasFatalFailure()) return;
      }
    }
}

}  // namespace
}  // namespace replk::jit
