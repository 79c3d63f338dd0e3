// The kernel of the matrix product, every sample and every height of a tile, against plain loops in double.
#include "jit/kernels/gemm.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <random>
#include <vector>

#include "core/cpu.hpp"

namespace replk::jit {
namespace {

std::vector<float> numbers(std::size_t count, std::mt19937& random) {
  std::vector<float> values(count);
  for (float& value : values) value = std::uniform_real_distribution<float>(-1, 1)(random);
  return values;
}

double activated(double x, Activation activation) {
  switch (activation) {
    case Activation::relu:
      return std::max(x, 0.0);
    case Activation::gelu:
      return 0.5 * x * std::erfc(-x * std::sqrt(0.5));
    default:
      return x;
  }
}

/// Runs a spec with rows further apart than they are long; what lies between them must stay.
void expect_plain_loops(const GemmSpec& spec, int depth, int tiles, std::mt19937& random) {
  const int panel = gemm_panel(spec.isa), rows = spec.rows * tiles, a_row = depth + 3,
            c_row = spec.columns + 5;
  const std::vector<float> a = numbers(std::size_t(rows * a_row), random),
                           bias = numbers(std::size_t(panel), random),
                           residual = numbers(std::size_t(rows * c_row), random),
                           before = numbers(std::size_t(rows * c_row), random);
  std::vector<float> weights = numbers(std::size_t(depth * panel), random), c = before;
  for (int k = 0; k < depth; k++)
    std::fill_n(&weights[std::size_t(k * panel + spec.columns)], panel - spec.columns, 0.0f);
  GemmArguments arguments{a.data(),
                          weights.data(),
                          c.data(),
                          bias.data(),
                          residual.data(),
                          a_row * 4,
                          c_row * 4,
                          depth,
                          tiles,
                          weights.data(),
                          0,
                          reinterpret_cast<const char*>(weights.data()),
                          0};
  gemm_code(spec)->entry<GemmKernel>()(&arguments);
  for (int r = 0; r < rows; r++)
    for (int j = 0; j < c_row; j++) {
      const std::size_t at = std::size_t(r * c_row + j);
      if (j >= spec.columns) {
        ASSERT_EQ(c[at], before[at]) << "between the rows";
        continue;
      }
      double sum = spec.bias ? bias[std::size_t(j)] : 0.0;
      for (int k = 0; k < depth; k++)
        sum += double(a[std::size_t(r * a_row + k)]) * weights[std::size_t(k * panel + j)];
      if (spec.add_c) sum += before[at];
      if (spec.add_residual) sum += residual[at];
      sum = activated(sum, spec.activation);
      if (spec.end_residual) sum += residual[at];
      // A rounding a multiply-add, of sums of at most depth + 2, and four more behind them.
      ASSERT_NEAR(c[at], sum, (depth + 4.0) * (depth + 2.0) * 0x1p-24)
          << spec.text() << " depth " << depth << " tiles " << tiles << " row " << r << " column " << j;
    }
}

TEST(Gemm, GivesWhatThePlainLoopsDo) {
  const Features features = core::features();
  if (core::cpu().isa == Isa::portable) GTEST_SKIP() << "this CPU, or REPLK_MAX_ISA, has no AVX2";
  std::mt19937 random(1);
  std::vector<GemmSpec> specs = GemmSpec::samples(features);
  for (int rows = 1; rows <= gemm_max_rows(isa_of(features)); rows++)
    specs.push_back({.isa = isa_of(features),
                     .rows = rows,
                     .columns = gemm_panel(isa_of(features)) - rows,
                     .bias = true});
  for (const GemmSpec& spec : specs) {
    for (const int depth : {1, 3, 4, 7, 16, 33})
      for (const int tiles : {1, 2, 5}) expect_plain_loops(spec, depth, tiles, random);
    if (HasFatalFailure()) return;
  }
}

}  // namespace
}  // namespace replk::jit
