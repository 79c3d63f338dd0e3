// Linear layers with narrow operands, by every choice that this machine offers, between inaccessible pages.
#include "dense/narrow.hpp"

#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <limits>

#include "core/error.hpp"
#include "core/features.hpp"
#include "dense/choice.hpp"
#include "dense/narrow_weights.hpp"
#include "tests/dense/narrow_case.hpp"
#include "tests/guarded.hpp"

namespace replk::dense {
namespace {

using test::Guarded;
using test::Side;

/// What a run wrote.
struct Written {
  std::vector<float> dst;
  std::vector<std::uint8_t> u8;
  std::vector<std::uint16_t> bf16;
};

template <class T>
std::vector<T> contents(const Guarded& memory) {
  return {memory.as<const T>(), memory.as<const T>() + memory.bytes() / sizeof(T)};
}

/// All tensors lie right at inaccessible pages; registers and stack are full of NaNs. in_place: the residual
/// is in dst.
Written run(const NarrowCase& c, const LinearPlan& plan, Side side, bool in_place) {
  const Linear& l = c.linear;
  const std::size_t count = std::size_t(l.rows) * std::size_t(l.outputs);
  const std::vector<std::byte> typed = c.typed_src();
  const Guarded src(typed.size(), side), residual(c.residual.size() * 4, side),
      dst(l.result ? count * 4 : 0, side), copy(l.copy == Element::f32 ? 0 : count * size_of(l.copy), side);
  const Guarded scratch(core::round_up(plan.scratch_bytes(), core::alignment), side);
  std::memcpy(src.as(), typed.data(), typed.size());
  if (l.residual) std::memcpy(residual.as(), c.residual.data(), residual.bytes());
  if (in_place) std::memcpy(dst.as(), c.residual.data(), residual.bytes());
  test::poison();
  plan.run({{src.as(), l.src},
            l.result ? dst.as<float>() : nullptr,
            {l.copy == Element::f32 ? nullptr : copy.as(), l.copy},
            l.residual ? (in_place ? dst : residual).as<const float>() : nullptr,
            scratch.as(),
            {}});
  EXPECT_TRUE(dst.intact()) << "around dst";
  EXPECT_TRUE(copy.intact()) << "around the copy";
  EXPECT_TRUE(scratch.intact()) << "around the scratch";
  Written w;
  if (l.result) w.dst = contents<float>(dst);
  if (l.copy == Element::u8) w.u8 = contents<std::uint8_t>(copy);
  if (l.copy == Element::bf16) w.bf16 = contents<std::uint16_t>(copy);
  return w;
}

std::uint32_t bits(float x) {
  return std::bit_cast<std::uint32_t>(x);
}

/// Every bit of an int8 layer.
void expect_exact(const NarrowCase& c, const std::vector<float>& wanted, const Written& got) {
  for (std::size_t i = 0; i < wanted.size(); i++) {
    const std::size_t o = i % std::size_t(c.linear.outputs);
    if (!got.dst.empty()) {
      ASSERT_EQ(bits(got.dst[i]), bits(wanted[i])) << "element " << i;
    }
    if (!got.u8.empty()) {
      ASSERT_EQ(got.u8[i], NarrowCase::quantised(wanted[i], c.copy, o)) << "u8 " << i;
    }
    if (!got.bf16.empty()) {
      ASSERT_EQ(got.bf16[i], core::from_float<core::Bf16>(wanted[i]).bits) << "bf16 " << i;
    }
  }
}

void expect_near(const NarrowCase& c, const NarrowCase::Bounds& wanted, const Written& got) {
  for (std::size_t i = 0; i < wanted.value.size(); i++) {
    const double value = wanted.value[i], error = wanted.error[i];
    const std::size_t o = i % std::size_t(c.linear.outputs);
    if (!got.dst.empty()) {
      ASSERT_NEAR(got.dst[i], value, error) << "element " << i;
    }
    if (!got.bf16.empty()) {
      ASSERT_NEAR(core::to_float(core::Bf16{got.bf16[i]}), value, error + 0x1.01p-8 * std::abs(value) + 1e-38)
          << "bf16 " << i;
    }
    if (!got.u8.empty()) {
      ASSERT_NEAR(got.u8[i], std::fmin(std::fmax(value * c.copy.scale[o] + c.copy.offset[o], 0), 255),
                  0.5 + 1e-4 + error * c.copy.scale[o])
          << "u8 " << i;
    }
  }
}

/// Of every instruction that may be used here, not only of the fastest, and in blocks of few rows as well.
std::vector<std::string> every_choice(const Linear& l, int threads) {
  std::vector<std::string> all = narrow_choices(l, threads, core::features());
  const std::pair<const char*, Features> dots[] = {
      {"avx2", Feature::avx2},
      {"avx512", Feature::avx2 | Feature::avx512},
      {"avx_vnni", Feature::avx2 | Feature::avx_vnni},
  };
  for (const auto& [dot, needs] : dots)
    if (core::features().has(needs) && (l.precision == Precision::int8 || dot != std::string("avx_vnni")))
      all.push_back(std::string("product dot=") + dot + " rows=13");
  return all;
}

void check(const Linear& l, Filling filling, unsigned seed) {
  const NarrowCase c(l, filling, seed);
  const bool int8 = l.precision == Precision::int8;
  const std::vector<float> exact = int8 ? c.exact() : std::vector<float>();
  const NarrowCase::Bounds near = int8 ? NarrowCase::Bounds() : c.bounds();
  const int threads = 1 + int(seed % 3);
  for (const std::string& choice : every_choice(l, threads)) {
    SCOPED_TRACE(::testing::Message()
                 << to_string(l) << " filling " << int(filling) << " threads " << threads << ": " << choice);
    test::guard_heap(seed % 2 ? Side::begin : Side::end);
    const LinearPlan plan(l, c.packed, {.threads = threads, .choice = choice, .copy = &c.copy});
    const Written got =
        run(c, plan, seed % 2 ? Side::begin : Side::end, l.residual && l.result && seed % 4 < 2);
    if (int8)
      expect_exact(c, exact, got);
    else
      expect_near(c, near, got);
    if (::testing::Test::HasFatalFailure()) return;
  }
}

Linear random_layer(Precision precision, std::mt19937& random) {
  const auto up_to = [&](unsigned most) { return int(1 + random() % most); };
  Linear l;
  l.precision = precision;
  l.rows = up_to(random() % 4 ? 30 : 90);
  l.inputs = up_to(random() % 4 ? 150 : 700);
  if (random() % 2) l.inputs = (l.inputs + 3) / 4 * 4;
  l.outputs = up_to(random() % 2 ? 40 : 140);
  l.bias = precision == Precision::int8 || random() % 4;
  l.activation = Activation(random() % 3);
  l.residual = random() % 2;
  if (random() % 2) l.src = precision == Precision::int8 ? Element::u8 : Element::bf16;
  l.copy = Element(random() % 3);
  l.result = l.copy == Element::f32 || random() % 2;
  return l;
}

void sweep(Precision precision, unsigned shapes) {
  std::mt19937 random(7);
  for (unsigned i = 0; i < shapes; i++) {
    check(random_layer(precision, random), i % 5 ? Filling::noise : Filling(1 + i / 5 % 3), i);
    if (::testing::Test::HasFatalFailure()) return;
  }
}

// Few enough for an emulated CPU and for every mutant.
TEST(Narrow, SomeShapesOfEveryKind) {
  sweep(Precision::int8, 40);
  sweep(Precision::bf16, 40);
}

TEST(Narrow, Int8HasTheSameBitsEverywhere) {
  sweep(Precision::int8, 520);
}

TEST(Narrow, Bf16IsNearTheExactSumOfRoundedOperands) {
  sweep(Precision::bf16, 520);
}

// Long sums: one part of a chain after the other, and int8's largest.
TEST(Narrow, LongReductions) {
  check({.rows = 3, .inputs = 4096, .outputs = 33, .precision = Precision::bf16}, Filling::large_mean, 1);
  check({.rows = 13, .inputs = 2049, .outputs = 17, .precision = Precision::bf16}, Filling::constant, 2);
  check({.rows = 2, .inputs = 65536, .outputs = 3, .precision = Precision::int8}, Filling::extreme, 3);
}

TEST(Narrow, RowsAndThreadsDoNotChangeABf16Result) {
  const Linear l{.rows = 61, .inputs = 300, .outputs = 70, .precision = Precision::bf16};
  const NarrowCase c(l, Filling::noise, 5);
  for (const std::string& choice : every_choice(l, 1)) {
    const Written one = run(c, LinearPlan(l, c.packed, {.threads = 1, .choice = choice}), Side::end, false);
    for (int threads : {2, 3}) {
      const LinearPlan plan(l, c.packed, {.threads = threads, .choice = choice});
      const Written more = run(c, plan, Side::end, false);
      EXPECT_EQ(std::memcmp(one.dst.data(), more.dst.data(), one.dst.size() * 4), 0) << choice;
    }
  }
}

// A NaN is 0 to an int8 layer, and goes to its own row of a bf16 one, also where a tail is padded.
TEST(Narrow, NaNsDoWhatIsStated) {
  const float nan = std::numeric_limits<float>::quiet_NaN(),
              infinity = std::numeric_limits<float>::infinity();
  for (const int inputs : {31, 32, 33}) {
    Linear l{.rows = 14,
             .inputs = inputs,
             .outputs = 37,
             .activation = Activation::gelu,
             .precision = Precision::int8};
    NarrowCase c(l, Filling::noise, 1);
    c.src[std::size_t(5 * inputs + inputs - 1)] = nan;
    c.src[std::size_t(6 * inputs)] = infinity;
    c.src[std::size_t(7 * inputs + 1)] = -infinity;
    for (const std::string& choice : every_choice(l, 1))
      expect_exact(c, c.exact(),
                   run(c, LinearPlan(l, c.packed, {.threads = 1, .choice = choice}), Side::end, false));
    l.precision = Precision::bf16;
    l.copy = Element::bf16;
    for (const Element src : {Element::f32, Element::bf16}) {
      l.src = src;
      NarrowCase d(l, Filling::noise, 1);
      d.src[std::size_t(5 * inputs + inputs - 1)] = nan;
      d.src[std::size_t(13 * inputs)] = nan;
      for (const std::string& choice : every_choice(l, 1)) {
        const Written got =
            run(d, LinearPlan(l, d.packed, {.threads = 1, .choice = choice}), Side::end, false);
        for (std::size_t i = 0; i < got.dst.size(); i++) {
          const bool hit = i / 37 == 5 || i / 37 == 13;
          EXPECT_EQ(std::isnan(got.dst[i]), hit) << choice << " element " << i;
          EXPECT_EQ(std::isnan(core::to_float(core::Bf16{got.bf16[i]})), hit) << choice << " copy " << i;
        }
      }
    }
  }
}

TEST(Narrow, WeightsArePackedAndUnpackedWithoutLoss) {
  const Linear l{.rows = 5, .inputs = 61, .outputs = 45, .precision = Precision::int8};
  const NarrowCase c(l, Filling::noise, 9);
  const std::size_t raw = c.weights.size();
  const std::vector<float> wanted = c.exact();
  for (int round = 0; round < 2; round++)
    for (const std::string& choice : every_choice(l, 1)) {  // no plan lives in between
      const LinearPlan plan(l, c.packed, {.threads = 1, .choice = choice});
      // Panels are padded: 45 outputs to 64, 61 inputs to 64.
      EXPECT_LE(c.packed->bytes(), raw * 2 + 4 * (2 * 45 + 2 * 61)) << choice;
      expect_exact(c, wanted, run(c, plan, Side::end, false));
    }
}

TEST(Narrow, Bf16x3WeightsAreTwoParts) {
  const NarrowCase c({.rows = 1, .inputs = 7, .outputs = 19, .precision = Precision::bf16x3}, Filling::noise,
                     2);
  NarrowWeights& weights = *c.packed->narrow();
  const auto panels = weights.panels({.width = 16, .group = 2, .multiple = 32});
  const auto* parts = reinterpret_cast<const core::Bf16*>(panels->data());
  ASSERT_EQ(panels->size(), 2u * 2 * 32 * 16 * 2);
  for (int o = 0; o < 32; o++)
    for (int i = 0; i < 32; i++) {
      const std::size_t at = std::size_t(o / 16 * 2 * 32 * 16 + (i / 2 * 16 + o % 16) * 2 + i % 2);
      const double sum = double(core::to_float(parts[at])) + core::to_float(parts[at + 32 * 16]);
      const double wanted = i < 7 && o < 19 ? c.weights[std::size_t(o * 7 + i)] : 0;
      EXPECT_NEAR(sum, wanted, 0x1p-16 * std::abs(wanted)) << o << " " << i;
    }
}

template <class Body>
std::string message(core::Status status, Body body) {
  try {
    body();
  } catch (const core::Error& e) {
    EXPECT_EQ(e.status(), status) << e.what();
    return e.what();
  }
  return "no error";
}

TEST(Narrow, WrongUseNamesTheField) {
  const auto contains = [](const std::string& text, const std::string& part) {
    EXPECT_NE(text.find(part), std::string::npos) << text;
  };
  constexpr auto wrong = core::Status::invalid_argument;
  const Linear l{.rows = 1, .inputs = 4, .outputs = 2, .precision = Precision::int8, .copy = Element::u8};
  const NarrowCase c(l, Filling::noise, 1);
  const std::vector<float> two(2, 1.0f);
  std::vector<std::int8_t> values(8, 1);
  contains(message(wrong, [&] { LinearPlan(l, c.packed, {.choice = "plain"}); }), "copy is u8");
  const Quantiser short_one{two, {}};
  contains(message(wrong, [&] { LinearPlan(l, c.packed, {.choice = "plain", .copy = &short_one}); }),
           "copy's quantiser");
  Linear other = l;
  other.precision = Precision::bf16;
  contains(message(wrong, [&] { LinearPlan(other, c.packed, {.copy = &c.copy}); }), "precision is bf16");
  other = l;
  other.src = Element::bf16;
  contains(message(wrong, [&] { LinearPlan(other, c.packed, {.copy = &c.copy}); }), "src is bf16");
  other = l;
  other.result = false;
  other.copy = Element::f32;
  contains(message(wrong, [&] { LinearPlan(other, c.packed); }), "neither");
  contains(message(wrong, [&] { LinearPlan(l, c.packed, {.choice = "narrow x", .copy = &c.copy}); }),
           "narrow x");
  contains(message(wrong, [&] { LinearWeights(4, 2, Int8Weights{values, two, {}}); }), "biases");
  values[3] = -128;
  contains(message(wrong, [&] { LinearWeights(4, 2, Int8Weights{values, two, two}); }), "-128");
  values.assign(65537, 1);
  contains(message(wrong,
                   [&] {
                     const std::vector<float> one(1, 1.0f);
                     LinearWeights(65537, 1, Int8Weights{values, one, one});
                   }),
           "65536");
  values.resize(8);
  values[3] = 1;
  const auto bare = std::make_shared<LinearWeights>(4, 2, Int8Weights{values, two, two});
  other = l;
  other.copy = Element::f32;
  contains(message(wrong, [&] { LinearPlan(other, bare); }), "without a quantiser");
  const LinearPlan plan(l, c.packed, {.choice = "plain", .copy = &c.copy});
  contains(message(wrong,
                   [&] {
                     float dst[2], src[4] = {};
                     plan.run({.src = src, .dst = dst, .scratch = dst});
                   }),
           "copy is null");
  contains(message(wrong,
                   [&] {
                     float dst[2];
                     std::uint8_t src[4] = {}, copy[2];
                     plan.run({.src = src, .dst = dst, .copy = copy, .scratch = dst});
                   }),
           "src is u8, but the layer's is f32");
  contains(message(wrong,
                   [&] {
                     float dst[2], src[4] = {};
                     core::Bf16 copy[2];
                     plan.run({.src = src, .dst = dst, .copy = copy, .scratch = dst});
                   }),
           "copy is bf16, but the layer's is u8");
}

TEST(Narrow, Bf16x3WithoutTilesIsRefused) {
  const Linear l{.rows = 1, .inputs = 4, .outputs = 2, .precision = Precision::bf16x3};
  const std::string text =
      message(core::Status::unsupported, [&] { narrow_choices(l, 1, Feature::avx2 | Feature::avx512); });
  EXPECT_NE(text.find("bf16x3"), std::string::npos) << text;
  EXPECT_NE(text.find("amx_bf16"), std::string::npos) << text;
}

}  // namespace
}  // namespace replk::dense
