// The row passes, random lengths, splits, parts and strides, against the definition of the transform in
// double.
#include "jit/kernels/row_transform.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <numbers>

#include "core/half.hpp"
#include "tests/jit/kernels/vectors.hpp"

namespace replk::jit {
namespace {

RowTransform random_transform(std::mt19937& random) {
  RowTransform transform;
  transform.n = between(random, 2, 48);
  const std::vector<Factors> choices = factor_choices(transform.n);
  transform.factors = choices[random() % choices.size()];
  return transform;
}

/// Where rows, blocks, pixels and planes lie, in vectors, with gaps between them all.
struct Places {
  Places(const RowTransform& transform, int count, std::mt19937& random)
      : rows(between(random, 1, 3)),
        blocks(between(random, 1, 3)),
        pixel(blocks + between(random, 0, 1)),
        row(count * pixel + between(random, 0, 2)),
        plane(rows + between(random, 0, 2)),
        block(transform.planes() * plane + between(random, 0, 2)) {}
  RowStrides strides(int vector, std::mt19937& random) const {
    return {pixel * vector, row * vector, plane * vector, vector, block * vector, between(random, 0, blocks)};
  }
  std::int64_t tensor_vectors(int count) const { return (rows - 1) * row + (count - 1) * pixel + blocks; }
  std::int64_t plane_vectors(int planes) const { return (blocks - 1) * block + (planes - 1) * plane + rows; }
  std::int64_t of_pixel(int r, int i, int b) const { return r * row + i * pixel + b; }
  std::int64_t of_plane(int r, int j, int b) const { return b * block + j * plane + r; }

  int rows, blocks;
  std::int64_t pixel, row, plane, block;
};

/// The factor by which input `i` counts in plane `j`: the cosine or minus the sine of its frequency.
double factor(const RowTransform& t, int j, int i) {
  const int k = j < t.reals() ? j * t.n / 2 : (j - t.reals()) / 2 + 1;
  const double angle = 2 * std::numbers::pi * (std::int64_t{k} * i % t.n) / t.n;
  return j >= t.reals() && (j - t.reals()) % 2 ? -std::sin(angle) : std::cos(angle);
}

/// The longest chain of a transform whose factors are computed whole is not longer than its sum; twiddles and
/// halves of rotations let values in between pass the sum of magnitudes, by less than a factor of two.
double allowed(const RowTransform& t, double magnitudes) {
  return rounding * 2 * (t.n + 8) * magnitudes;
}

void expect_forward(Isa isa, Data kind, std::mt19937& random) {
  RowForwardSpec spec;
  spec.isa = isa;
  spec.transform = random_transform(random);
  const int n = spec.transform.n, lanes = vector_floats(isa);
  spec.step = between(random, 1, 2);
  spec.count = between(random, 1, (n + spec.step - 1) / spec.step);
  spec.first = between(random, 0, n - 1 - (spec.count - 1) * spec.step);
  spec.free_signs = sometimes(random);
  if (!spec.free_signs && sometimes(random))
    for (int j = 0; j < spec.transform.planes(); j++) spec.signs.push_back(sometimes(random) ? 1 : -1);
  const Places places(spec.transform, spec.count, random);
  spec.strides = places.strides(4 * lanes, random);
  const std::vector<int> signs = spec.signs.empty() ? row_signs(spec) : spec.signs;
  ASSERT_EQ(signs.size(), std::size_t(spec.transform.planes()));

  const Vectors src(places.tensor_vectors(spec.count), lanes, kind, random),
      planes(places.plane_vectors(spec.transform.planes()), lanes, random);
  call<RowForward>(spec, src.data(), planes.data(), std::int64_t{places.rows}, std::int64_t{places.blocks});
  ASSERT_TRUE(planes.intact()) << spec.text();
  for (int b = 0; b < places.blocks; b++)
    for (int r = 0; r < places.rows; r++)
      for (int j = 0; j < spec.transform.planes(); j++)
        for (int lane = 0; lane < lanes; lane++) {
          double sum = 0, magnitudes = 0;
          for (int i = 0; i < spec.count; i++) {
            const double x = src.at(places.of_pixel(r, i, b), lane);
            sum += x * factor(spec.transform, j, spec.first + i * spec.step);
            magnitudes += std::abs(x);
          }
          ASSERT_NEAR(planes.at(places.of_plane(r, j, b), lane), signs[std::size_t(j)] * sum,
                      allowed(spec.transform, magnitudes))
              << spec.text() << " data " << int(kind) << " row " << r << " plane " << j << " block " << b;
        }
}

void expect_inverse(Isa isa, Data kind, std::mt19937& random) {
  RowInverseSpec spec;
  spec.isa = isa;
  spec.transform = random_transform(random);
  const int n = spec.transform.n, lanes = vector_floats(isa);
  for (int j = 0; j < n; j++) spec.signs.push_back(sometimes(random) ? 1 : -1);
  spec.step = between(random, 1, 2);
  spec.count = between(random, 1, (n + spec.step - 1) / spec.step);
  spec.first = between(random, 0, n - 1);
  spec.relu = sometimes(random);
  spec.residual = sometimes(random);
  spec.scaled = sometimes(random);
  const Places places(spec.transform, spec.count, random);
  spec.strides = places.strides(4 * lanes, random);

  const Vectors planes(places.plane_vectors(n), lanes, kind, random),
      bias(places.blocks, lanes, Data::noise, random),
      residual(spec.residual ? places.tensor_vectors(spec.count) : 0, lanes, kind, random),
      dst(places.tensor_vectors(spec.count), lanes, random);
  call<RowInverse>(spec, planes.data(), dst.data(), bias.data(), residual.data(), std::int64_t{places.rows},
                   std::int64_t{places.blocks});
  ASSERT_TRUE(dst.intact()) << spec.text();
  for (int b = 0; b < places.blocks; b++)
    for (int r = 0; r < places.rows; r++)
      for (int q = 0; q < spec.count; q++)
        for (int lane = 0; lane < lanes; lane++) {
          const int i = (spec.first + q * spec.step) % n;
          double sum = bias.at(b, lane), magnitudes = std::abs(sum);
          for (int j = 0; j < n; j++) {
            const double scale = spec.scaled ? (j < spec.transform.reals() ? 1.0 : 2.0) / n : 1;
            const double plane =
                scale * spec.signs[std::size_t(j)] * planes.at(places.of_plane(r, j, b), lane);
            sum += plane * factor(spec.transform, j, i);
            magnitudes += std::abs(plane);
          }
          if (spec.relu) sum = std::max(sum, 0.0);
          if (spec.residual) {
            sum += residual.at(places.of_pixel(r, q, b), lane);
            magnitudes += std::abs(residual.at(places.of_pixel(r, q, b), lane));
          }
          ASSERT_NEAR(dst.at(places.of_pixel(r, q, b), lane), sum, allowed(spec.transform, magnitudes))
              << spec.text() << " data " << int(kind) << " row " << r << " pixel " << q << " block " << b;
        }
}

using RowTransformTest = KernelTest;

TEST_F(RowTransformTest, ForwardIsTheTransform) {
  std::mt19937 random(1);
  for (int round = 0; round < 120 && !HasFatalFailure(); round++)
    expect_forward(isa_, every_data[round % 4], random);
}

TEST_F(RowTransformTest, InverseIsItsTransposeWithTheEpilogue) {
  std::mt19937 random(2);
  for (int round = 0; round < 120 && !HasFatalFailure(); round++)
    expect_inverse(isa_, every_data[round % 4], random);
}

/// What a narrow tensor holds, between inaccessible pages, and the same in fp32.
template <class T>
struct NarrowPixels {
  NarrowPixels(std::int64_t vectors, int lanes, std::mt19937& random)
      : wide(vectors, lanes, Data::large_mean, random),
        memory(static_cast<std::size_t>(vectors * lanes) * sizeof(T),
               sometimes(random) ? test::Side::begin : test::Side::end),
        count(vectors * lanes) {
    for (std::int64_t i = 0; i < count; i++) {
      data()[i] = core::from_float<T>(wide.data()[i] * (sometimes(random) ? 1 : -1));
      wide.data()[i] = core::to_float(data()[i]);
    }
  }
  T* data() const { return memory.template as<T>(); }

  Vectors wide;
  test::Guarded memory;
  std::int64_t count;
};

/// Strides of the same places in fp32, of pixels that are this wide.
RowStrides narrowed(RowStrides s, std::int64_t size) {
  for (std::int64_t* each : {&s.pixel, &s.row, &s.tensor_block}) *each = *each * size / 4;
  return s;
}

/// Narrow pixels are widened exactly, and rounded as core::from_float rounds: all else has the same bits.
template <class T>
void expect_as_fp32(Isa isa, DataType type, bool native_bf16, std::mt19937& random) {
  RowForwardSpec there;
  there.isa = isa;
  there.transform = random_transform(random);
  const int n = there.transform.n, lanes = vector_floats(isa);
  there.count = between(random, 1, n);
  const Places places(there.transform, there.count, random);
  there.strides = places.strides(4 * lanes, random);
  RowForwardSpec narrow_there = there;
  narrow_there.type = type;
  narrow_there.strides = narrowed(there.strides, sizeof(T));
  const NarrowPixels<T> src(places.tensor_vectors(there.count), lanes, random);
  const Vectors planes(places.plane_vectors(n), lanes, random), wanted(planes.count(), lanes, random);
  const auto rows = std::int64_t{places.rows}, blocks = std::int64_t{places.blocks};
  call<RowForward>(there, src.wide.data(), wanted.data(), rows, blocks);
  call<RowForward>(narrow_there, src.data(), planes.data(), rows, blocks);
  ASSERT_EQ(std::memcmp(planes.data(), wanted.data(), sizeof(float) * std::size_t(wanted.count() * lanes)), 0)
      << narrow_there.text();

  RowInverseSpec back{isa, there.transform, row_signs(there), 0, there.count, 1, there.strides};
  back.relu = sometimes(random);
  back.residual = sometimes(random);
  RowInverseSpec narrow_back = back;
  narrow_back.type = type;
  narrow_back.native_bf16 = native_bf16;
  narrow_back.strides = narrowed(back.strides, sizeof(T));
  const Vectors bias(places.blocks, lanes, Data::noise, random);
  bias.at(0, 0) =
      std::numeric_limits<float>::quiet_NaN();  // lane 0 of block 0 is NaN throughout, lane 1 infinite
  bias.at(0, 1) = -std::numeric_limits<float>::infinity();
  const NarrowPixels<T> residual(back.residual ? places.tensor_vectors(there.count) : 0, lanes, random),
      dst(places.tensor_vectors(there.count), lanes, random);
  call<RowInverse>(back, planes.data(), dst.wide.data(), bias.data(), residual.wide.data(), rows, blocks);
  call<RowInverse>(narrow_back, planes.data(), dst.data(), bias.data(), residual.data(), rows, blocks);
  ASSERT_TRUE(dst.memory.intact()) << narrow_back.text();
  for (std::int64_t i = 0; i < dst.count; i++)
    ASSERT_EQ(dst.data()[i].bits, core::from_float<T>(dst.wide.data()[i]).bits) << narrow_back.text();
}

TEST_F(RowTransformTest, NarrowPixelsHaveTheBitsOfWidenedOnes) {
  std::mt19937 random(3);
  const bool rounds = core::features().has(Feature::avx512_bf16);
  for (int round = 0; round < 60 && !HasFatalFailure(); round++) {
    expect_as_fp32<core::F16>(isa_, DataType::f16, false, random);
    expect_as_fp32<core::Bf16>(isa_, DataType::bf16, rounds && round % 2 == 0, random);
  }
}

}  // namespace
}  // namespace replk::jit
