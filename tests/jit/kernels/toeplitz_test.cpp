// The column pass by Toeplitz matrices, random shapes of every kind, against plain loops in double.
#include "jit/kernels/toeplitz.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <optional>

#include "tests/jit/kernels/vectors.hpp"

namespace replk::jit {
namespace {

ToeplitzSpec random_spec(Isa isa, std::mt19937& random) {
  ToeplitzSpec spec;
  spec.isa = isa;
  spec.outputs = between(random, 1, 20);
  spec.inputs = between(random, 1, 20);
  spec.step = between(random, 1, 4) == 4 ? 2 : 1;
  const int extent = between(random, 1, 15);
  spec.first = between(random, 0, extent);
  spec.taps = {between(random, 0, extent - 1)};
  for (int tap = spec.taps[0] + 1; tap < extent; tap++)
    if (random() % 4 != 0) spec.taps.push_back(tap);
  spec.karatsuba = spec.step == 1 ? between(random, 0, 2) : 0;
  spec.tile = between(random, 1, 9);
  spec.gauss = sometimes(random);
  spec.weight_planes = sometimes(random);
  spec.backwards = sometimes(random);
  spec.accumulate = sometimes(random);
  return spec;
}

/// What a call works on: planes of `rows` vectors.
struct Planes {
  Planes(const ToeplitzSpec& spec, int rows_of_a_plane, int reals_, int pairs_, Data kind,
         std::mt19937& random)
      : rows(rows_of_a_plane),
        reals(reals_),
        pairs(pairs_),
        lanes(vector_floats(spec.isa)),
        taps(static_cast<int>(spec.taps.size())),
        in(extent(spec.inputs), lanes, kind, random),
        before(extent(spec.outputs), lanes, Data::noise, random),
        out(before.count(), lanes, random),
        weights(spec.weight_planes ? extent(taps) : planes() * taps, lanes, kind, random),
        scratch((static_cast<std::int64_t>(scratch_bytes(spec)) / 64 + 1) * 64 / 4 / lanes, lanes, random) {
    out.copy_from(before);
  }
  std::int64_t planes() const { return reals + 2 * pairs; }
  std::int64_t extent(int last) const { return planes() == 0 ? 0 : (planes() - 1) * rows + last; }  // vectors

  /// Weight of a tap (its place in the list) for a plane, which of a pair is 0 or 1.
  double weight(const ToeplitzSpec& spec, std::int64_t plane, int tap, int lane) const {
    const int t = spec.backwards ? taps - 1 - tap : tap;
    if (spec.weight_planes) return weights.at(plane * rows + t, lane);
    if (plane < reals) return weights.at(plane * taps + t, lane);
    const std::int64_t pair = (plane - reals) / 2, part = (plane - reals) % 2;
    return weights.at(reals * taps + pair * 2 * taps + 2 * t + part, lane);
  }
  double input(const ToeplitzSpec& spec, std::int64_t plane, int i, int lane) const {
    if (i < spec.first || i >= spec.first + spec.inputs) return 0;
    return in.at(plane * rows + i - spec.first, lane);
  }
  /// Plane p of the products of inputs a with weights w.
  double product(const ToeplitzSpec& spec, std::int64_t a, std::int64_t w, int o, int lane) const {
    double sum = 0;
    for (int t = 0; t < taps; t++)
      sum += weight(spec, w, t, lane) * input(spec, a, o * spec.step + spec.taps[std::size_t(t)], lane);
    return sum;
  }
  double expected(const ToeplitzSpec& spec, std::int64_t plane, int o, int lane) const {
    if (plane < reals) return product(spec, plane, plane, o, lane);
    const bool imaginary = (plane - reals) % 2;
    const std::int64_t re = plane - imaginary, im = re + 1;
    if (imaginary) return product(spec, re, im, o, lane) + product(spec, im, re, o, lane);
    return product(spec, re, re, o, lane) - product(spec, im, im, o, lane);
  }

  const int rows, reals, pairs, lanes, taps;
  const Vectors in, before;
  Vectors out;
  const Vectors weights, scratch;
};

/// Gauss's products have operands of twice the size, and add two of them; so do Karatsuba's, each level,
/// which also takes away the product that both halves share. A product passes through a rounding a tap, and
/// some on either side.
double allowed(const ToeplitzSpec& spec, const Planes& p) {
  const double grown = 4 * std::pow(4, spec.karatsuba), roundings = p.taps + 4 + 6 * spec.karatsuba;
  return rounding * (roundings * grown * p.taps * p.in.largest() * p.weights.largest() +
                     (spec.accumulate ? p.before.largest() : 0));
}

void expect_plain_loops(ToeplitzSpec spec, Data kind, std::mt19937& random) {
  const int vector = 4 * vector_floats(spec.isa);
  const int rows =
      std::max({spec.inputs, spec.outputs, static_cast<int>(spec.taps.size())}) + between(random, 0, 3);
  spec.plane_stride = std::int64_t{rows} * vector;
  const Planes p(spec, rows, between(random, 0, 2), between(random, 0, 3), kind, random);
  if (p.planes() == 0) return;
  spec.half_weights = !spec.weight_planes && sometimes(random);
  std::optional<Narrowed<core::F16>> halves;
  if (spec.half_weights) halves.emplace(p.weights, p.lanes, random);
  const void* const weights = halves ? static_cast<const void*>(halves->data()) : p.weights.data();
  call<Toeplitz>(spec, p.in.data(), p.out.data(), weights, std::int64_t{p.reals}, std::int64_t{p.pairs},
                 static_cast<void*>(p.scratch.data()));
  ASSERT_TRUE(p.out.intact() && p.scratch.intact()) << spec.text();
  const double limit = allowed(spec, p);
  for (std::int64_t plane = 0; plane < p.planes(); plane++)
    for (int o = 0; o < (plane + 1 < p.planes() ? rows : spec.outputs); o++)
      for (int lane = 0; lane < p.lanes; lane++) {
        const double before = p.before.at(plane * rows + o, lane), got = p.out.at(plane * rows + o, lane);
        if (o >= spec.outputs) {
          ASSERT_EQ(got, before) << spec.text() << " behind the outputs of plane " << plane;
          continue;
        }
        ASSERT_NEAR(got, p.expected(spec, plane, o, lane) + (spec.accumulate ? before : 0), limit)
            << spec.text() << " data " << int(kind) << " plane " << plane << " of " << p.reals << "+2*"
            << p.pairs << ", output " << o << ", lane " << lane;
      }
  if (spec.accumulate) return;
  // Once more with results where inputs lay two planes before.
  const Vectors same((p.planes() + 2) * rows, p.lanes, random);
  std::copy_n(p.in.data(), p.in.count() * p.lanes, &same.at(2 * rows, 0));
  call<Toeplitz>(spec, &same.at(2 * rows, 0), same.data(), weights, std::int64_t{p.reals},
                 std::int64_t{p.pairs}, static_cast<void*>(p.scratch.data()));
  for (std::int64_t plane = 0; plane < p.planes(); plane++)
    for (int o = 0; o < spec.outputs; o++)
      for (int lane = 0; lane < p.lanes; lane++)
        ASSERT_EQ(same.at(plane * rows + o, lane), p.out.at(plane * rows + o, lane))
            << spec.text() << " in place";
}

using ToeplitzTest = KernelTest;

TEST_F(ToeplitzTest, GivesWhatThePlainLoopsDo) {
  std::mt19937 random(1);
  for (int round = 0; round < 160 && !HasFatalFailure(); round++)
    expect_plain_loops(random_spec(isa_, random), every_data[round % 4], random);
}

TEST_F(ToeplitzTest, LargePairsByCallsDoToo) {
  std::mt19937 random(2);
  for (const ToeplitzSpec& sample : ToeplitzSpec::samples(features_of(isa_)))
    for (const Data kind : every_data) {
      expect_plain_loops(sample, kind, random);
      if (HasFatalFailure()) return;
    }
}

}  // namespace
}  // namespace replk::jit
