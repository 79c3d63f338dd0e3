// The column pass by transforms and both transforms of weights, random lengths and splits, against their
// definitions in double.
#include "jit/kernels/column_fft.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <complex>
#include <numbers>
#include <optional>
#include <tuple>
#include <utility>
#include <vector>

#include "jit/kernels/weight_transform.hpp"
#include "tests/jit/kernels/vectors.hpp"

namespace replk::jit {
namespace {

using C = std::complex<double>;

/// exp(2 pi i k / n).
C root(int n, std::int64_t k) {
  return std::polar(1.0, 2 * std::numbers::pi * double(k % n) / n);
}

/// A length and a split of it into at least `least` factors.
std::pair<int, Factors> random_split(std::mt19937& random, std::size_t least) {
  for (;;) {
    const int n = between(random, 2, 48);
    const std::vector<Factors> choices = factor_choices(n);
    const Factors& factors = choices[random() % choices.size()];
    if (factors.size() >= least) return {n, factors};
  }
}

std::vector<int> shuffled(int count, std::mt19937& random) {
  std::vector<int> all;
  for (int i = 0; i < count; i++) all.push_back(i);
  std::shuffle(all.begin(), all.end(), random);
  return all;
}

void expect_convolution(Isa isa, Data kind, std::mt19937& random) {
  ColumnFftSpec spec;
  spec.isa = isa;
  std::tie(spec.n, spec.factors) = random_split(random, 2);
  const int n = spec.n, lanes = vector_floats(isa);
  spec.inputs = between(random, 1, n);
  spec.first = between(random, 0, n - spec.inputs);
  spec.step = between(random, 1, 2);
  spec.outputs = between(random, 1, (n + spec.step - 1) / spec.step);
  spec.chunk = between(random, 1, 3);
  const int pairs = between(random, 1, 5), rows = std::max(spec.inputs, spec.outputs) + between(random, 0, 2);
  spec.plane_stride = std::int64_t{rows} * 4 * lanes;

  // Results over inputs, two planes before, as executors have it.
  const Vectors planes((2 * pairs + 2) * rows, lanes, kind, random), before(planes.count(), lanes, random),
      weights(std::int64_t{pairs} * 2 * n, lanes, kind, random),
      scratch(static_cast<std::int64_t>(scratch_bytes(spec)) / 4 / lanes, lanes, random);
  std::copy_n(planes.data(), planes.count() * lanes, before.data());
  const std::vector<int> order = fft_weight_order(spec);
  spec.half_weights = sometimes(random);
  std::optional<Narrowed<core::F16>> halves;
  if (spec.half_weights) halves.emplace(weights, lanes, random);
  call<ColumnFft>(spec, &planes.at(2 * rows, 0), planes.data(),
                  halves ? static_cast<const void*>(halves->data()) : weights.data(), std::int64_t{pairs},
                  static_cast<void*>(scratch.data()));
  ASSERT_TRUE(planes.intact() && scratch.intact()) << spec.text();
  for (int pair = 0; pair < pairs; pair++)
    for (int lane = 0; lane < lanes; lane++) {
      std::vector<C> product;
      double magnitudes = 0;
      for (int k = 0; k < n; k++) {
        C sum = 0;
        double inputs = 0;
        for (int i = 0; i < spec.inputs; i++) {
          const std::int64_t at = (2 + 2 * pair) * rows + i;
          const C x(before.at(at, lane), before.at(at + rows, lane));
          sum += x * std::conj(root(n, std::int64_t{k} * (spec.first + i)));
          inputs += std::abs(x);
        }
        const auto place = std::find(order.begin(), order.end(), k) - order.begin();
        ASSERT_LT(place, n) << "no weight for frequency " << k;
        const std::int64_t at = std::int64_t{pair} * 2 * n + 2 * place;
        const C weight(weights.at(at, lane), weights.at(at + 1, lane));
        product.push_back(weight * sum);
        magnitudes += std::abs(weight) * inputs;
      }
      // Both transforms' chains and the product; values in between are less than twice the sums.
      const double limit = rounding * 4 * (2 * n + 16) * magnitudes;
      for (int o = 0; o < spec.outputs; o++) {
        C sum = 0;
        for (int k = 0; k < n; k++) sum += product[std::size_t(k)] * root(n, std::int64_t{k} * o * spec.step);
        const std::int64_t at = 2 * pair * rows + o;
        ASSERT_NEAR(planes.at(at, lane), sum.real(), limit)
            << spec.text() << " pair " << pair << " output " << o;
        ASSERT_NEAR(planes.at(at + rows, lane), sum.imag(), limit)
            << spec.text() << " pair " << pair << " output " << o;
      }
    }
}

void expect_row_weights(Isa isa, Data kind, std::mt19937& random) {
  RowWeightsSpec spec;
  spec.isa = isa;
  RowTransform& t = spec.transform;
  std::tie(t.n, t.factors) = random_split(random, 1);
  const int n = t.n, lanes = vector_floats(isa), rows = between(random, 1, 4);
  spec.taps = between(random, 1, n + 3);  // taps that meet themselves, too
  spec.shift = between(random, -2, n + 1);
  for (int j = 0; j < n; j++) spec.signs.push_back(sometimes(random) ? 1 : -1);
  const int real_rows = rows + between(random, 0, 2), pair_rows = 2 * rows + between(random, 0, 2);
  spec.real_stride = std::int64_t{real_rows} * 4 * lanes;
  spec.pair_stride = std::int64_t{pair_rows} * 4 * lanes;
  const Vectors taps(std::int64_t{rows} * spec.taps, lanes, kind, random),
      reals(std::int64_t{t.reals() - 1} * real_rows + rows, lanes, random),
      pairs(t.pairs() ? std::int64_t{t.pairs() - 1} * pair_rows + 2 * rows : 0, lanes, random);
  call<WeightTransform>(spec, taps.data(), reals.data(), pairs.data(), std::int64_t{rows});
  ASSERT_TRUE(reals.intact() && pairs.intact()) << spec.text();
  for (int r = 0; r < rows; r++)
    for (int lane = 0; lane < lanes; lane++)
      for (int k = 0; k <= n / 2; k++) {
        C sum = 0;
        double magnitudes = 0;
        for (int i = 0; i < spec.taps; i++) {
          const double w = taps.at(r * spec.taps + i, lane);
          sum += w * root(n, std::int64_t{k} * (i - spec.shift + 2 * n));  // the transform, conjugated
          magnitudes += std::abs(w);
        }
        const double limit = rounding * 2 * (n + 8) * magnitudes;
        const bool real = k == 0 || 2 * k == n;
        if (real) {
          ASSERT_NEAR(reals.at(k ? real_rows + r : r, lane), sum.real() / n, limit / n) << spec.text();
          continue;
        }
        const int plane = t.reals() + 2 * (k - 1);
        const bool conjugated = spec.signs[std::size_t(plane)] != spec.signs[std::size_t(plane) + 1];
        const C wanted = 2.0 / n * (conjugated ? std::conj(sum) : sum);
        const std::int64_t at = (k - 1) * pair_rows + 2 * r;
        ASSERT_NEAR(pairs.at(at, lane), wanted.real(), 2 * limit / n) << spec.text() << " frequency " << k;
        ASSERT_NEAR(pairs.at(at + 1, lane), wanted.imag(), 2 * limit / n)
            << spec.text() << " frequency " << k;
      }
}

void expect_column_weights(Isa isa, Data kind, std::mt19937& random) {
  ColumnWeightsSpec spec;
  spec.isa = isa;
  std::tie(spec.n, spec.factors) = random_split(random, 1);
  const int n = spec.n, lanes = vector_floats(isa);
  spec.order = shuffled(n, random);
  spec.places = shuffled(n, random);
  spec.places.resize(std::size_t(between(random, 1, n)));
  const auto count = static_cast<int>(spec.places.size());
  const Vectors taps(2 * count, lanes, kind, random), spectrum(2 * n, lanes, random);
  call<WeightTransform>(spec, taps.data(), static_cast<void*>(nullptr), static_cast<void*>(spectrum.data()),
                        std::int64_t{1});
  ASSERT_TRUE(spectrum.intact()) << spec.text();
  for (int lane = 0; lane < lanes; lane++)
    for (int k = 0; k < n; k++) {
      C sum = 0;
      double magnitudes = 0;
      for (int i = 0; i < count; i++) {
        const C w(taps.at(2 * i, lane), taps.at(2 * i + 1, lane));
        sum += w * root(n, std::int64_t{k} * spec.places[std::size_t(i)]);
        magnitudes += std::abs(w);
      }
      const double limit = rounding * 2 * (n + 8) * magnitudes / n;
      const auto at = std::find(spec.order.begin(), spec.order.end(), k) - spec.order.begin();
      ASSERT_NEAR(spectrum.at(2 * at, lane), sum.real() / n, limit) << spec.text() << " frequency " << k;
      ASSERT_NEAR(spectrum.at(2 * at + 1, lane), sum.imag() / n, limit) << spec.text() << " frequency " << k;
    }
}

/// Of the function, over random specs and each kind of data.
void sweep(void (*expect)(Isa, Data, std::mt19937&), Isa isa, int rounds) {
  std::mt19937 random(1);
  for (int round = 0; round < rounds && !testing::Test::HasFatalFailure(); round++)
    expect(isa, every_data[round % 4], random);
}

using ColumnFftTest = KernelTest;

TEST_F(ColumnFftTest, IsTheConvolution) {
  sweep(expect_convolution, isa_, 80);
}

using WeightTransformTest = KernelTest;

TEST_F(WeightTransformTest, OfRowsIsTheConjugatedTransform) {
  sweep(expect_row_weights, isa_, 120);
}

TEST_F(WeightTransformTest, OfColumnsIsTheConjugatedTransform) {
  sweep(expect_column_weights, isa_, 120);
}

}  // namespace
}  // namespace replk::jit
