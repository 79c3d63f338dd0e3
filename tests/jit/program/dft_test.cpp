#include "jit/program/dft.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <numbers>

#include "jit/kernels/row_transform.hpp"

namespace replk::jit {
namespace {

double sample(int i) {
  return std::sin(1.0 + 1.7 * i * i);
}

/// The largest error of a recorded transform whose first `given` inputs are not zero.
double worst_error(int n, const Factors& factors, int given, bool real) {
  Program program;
  std::vector<Complex> x(n);
  for (int i = 0; i < given; i++) x[i] = {program.input(0, i), real ? Real() : program.input(1, i)};
  const auto spectrum = dft(x, factors);
  for (int k = 0; k < n; k++) {
    program.output(2, k, spectrum[k].re);
    program.output(3, k, spectrum[k].im);
  }
  const auto got = program.evaluate([](int stream, int i) { return sample(i + 1000 * stream); });
  double worst = 0;
  for (int k = 0; k < n; k++) {
    double re = 0, im = 0;
    for (int i = 0; i < given; i++) {
      const double a = -2 * std::numbers::pi * (static_cast<double>(k) * i) / n, xr = sample(i),
                   xi = real ? 0 : sample(i + 1000);
      re += xr * std::cos(a) - xi * std::sin(a);
      im += xr * std::sin(a) + xi * std::cos(a);
    }
    worst = std::max({worst, std::abs(re - got[2 * k]), std::abs(im - got[2 * k + 1])});
  }
  return worst;
}

TEST(Dft, EverySplitOfEveryLengthIsATransform) {
  for (int n = 2; n <= 48; n++)
    for (const Factors& factors : factor_choices(n))
      for (const bool real : {true, false}) {
        EXPECT_LT(worst_error(n, factors, n, real), 1e-11) << n << " as " << to_string(factors);
        EXPECT_LT(worst_error(n, factors, (2 * n + 2) / 3, real), 1e-11) << n << " as " << to_string(factors);
      }
  for (int n : {56, 60, 64, 72, 80, 84, 96, 112, 120, 128, 144})
    EXPECT_LT(worst_error(n, {n}, n / 2, true), 1e-11) << n;
}

TEST(Dft, FactorsParse) {
  EXPECT_EQ(parse_factors("8x9", 72), (Factors{8, 9}));
  for (const char* text : {"", "x", "8x", "8x8", "72x1", "8x9x1", "-8x-9", "8x9 ", "99999999999999x1"})
    EXPECT_TRUE(parse_factors(text, 72).empty()) << text;
}

TEST(Dft, RealTransformsTakeFewOperations) {
  // FFTW's own r2cf_15 has 64 additions and 71 instructions with fused multiply-adds (Frigo and Johnson's
  // codelets); the recorded one may not be far from it.
  RowForwardSpec spec;
  spec.transform = {15, {15}};
  spec.count = 15;
  const Counts counts = count(spec);
  EXPECT_LE(counts.multiplies + counts.adds, 78);
}

}  // namespace
}  // namespace replk::jit
