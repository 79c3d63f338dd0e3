// The weight gradient's kernel, random shapes, against plain loops in double.
#include "jit/kernels/weight_direct.hpp"

#include <gtest/gtest.h>

#include <algorithm>

#include "tests/jit/kernels/vectors.hpp"

namespace replk::jit {
namespace {

void expect_plain_loops(Isa isa, Data kind, std::mt19937& random) {
  WeightDirectSpec spec;
  spec.isa = isa;
  do {
    spec.rows = between(random, 1, 5);
    spec.columns = between(random, 1, 9);
  } while (!weight_direct_fits(isa, spec.rows, spec.columns));
  spec.width = between(random, 1, 80);
  spec.out_width = between(random, 1, 80);
  spec.stride = between(random, 1, 2);
  spec.step = between(random, 1, 3);
  spec.offset = between(random, -4, 3);
  const int lanes = vector_floats(isa), rows = between(random, 1, 20), gap = between(random, 0, 1);
  // In vectors. Rows of taps lie `dilation` rows of x apart.
  const int x_row = spec.width + gap, dilation = between(random, 1, 2), x_tap = dilation * x_row,
            dy_row = spec.out_width + gap, sums_row = spec.columns + gap;
  const auto bytes = [&](std::int64_t vectors) { return vectors * 4 * lanes; };
  spec.x_pixel_bytes = spec.dy_pixel_bytes = bytes(1);
  spec.x_row_bytes = bytes(x_row);
  spec.x_tap_bytes = bytes(x_tap);
  spec.dy_row_bytes = bytes(dy_row);
  spec.sums_row_bytes = bytes(sums_row);

  const Vectors x((rows - 1) * x_row + (spec.rows - 1) * x_tap + spec.width, lanes, kind, random),
      dy((rows - 1) * dy_row + spec.out_width, lanes, kind, random),
      before((spec.rows - 1) * sums_row + spec.columns, lanes, Data::noise, random),
      sums(before.count(), lanes, random);
  std::copy_n(before.data(), before.count() * lanes, sums.data());
  call<WeightDirect>(spec, x.data(), dy.data(), sums.data(), std::int64_t{rows});
  ASSERT_TRUE(sums.intact()) << spec.text();
  for (int i = 0; i < spec.rows; i++)
    for (int j = 0; j < sums_row; j++)
      for (int lane = 0; lane < lanes; lane++) {
        const std::int64_t at = i * sums_row + j;
        if (at >= sums.count()) continue;
        if (j >= spec.columns) {
          ASSERT_EQ(sums.at(at, lane), before.at(at, lane)) << "between the rows of sums";
          continue;
        }
        double sum = before.at(at, lane), magnitudes = std::abs(sum);
        for (int y = 0; y < rows; y++)
          for (int q = 0; q < spec.out_width; q++) {
            const int column = q * spec.stride + j * spec.step + spec.offset;
            if (column < 0 || column >= spec.width) continue;
            const double product =
                double(dy.at(y * dy_row + q, lane)) * x.at(y * x_row + i * x_tap + column, lane);
            sum += product;
            magnitudes += std::abs(product);
          }
        const int roundings = weight_direct_chain + weight_direct_adds(spec, rows);
        ASSERT_NEAR(sums.at(at, lane), sum, rounding * roundings * magnitudes)
            << spec.text() << " data " << int(kind) << " rows " << rows << " tap " << i << ',' << j;
      }
}

using WeightDirectTest = KernelTest;

TEST_F(WeightDirectTest, GivesWhatThePlainLoopsDo) {
  std::mt19937 random(1);
  for (int round = 0; round < 120 && !HasFatalFailure(); round++)
    expect_plain_loops(isa_, every_data[round % 4], random);
}

}  // namespace
}  // namespace replk::jit
