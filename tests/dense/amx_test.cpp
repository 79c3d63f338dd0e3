// Products by AMX tiles against plain sums. Run twice: with the tile instructions interpreted, which any CPU
// with AVX-512 can, and (REPLK_TEST_TILES=hardware) with those of the CPU, where it has them.
#include "dense/amx.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <limits>
#include <random>
#include <string>
#include <string_view>
#include <vector>

#include "core/cpu.hpp"
#include "core/features.hpp"
#include "core/gelu.hpp"
#include "core/half.hpp"
#include "core/quantise.hpp"
#include "core/tile_order.hpp"
#include "jit/kernels/tile_product.hpp"
#include "tests/guarded.hpp"
#include "tests/support/tile_interpreter.hpp"

namespace replk::dense {
namespace {

using test::Guarded;
using test::Side;

bool hardware_tiles() {
  const char* wanted = std::getenv("REPLK_TEST_TILES");
  return wanted && std::string_view(wanted) == "hardware";
}

class Tiles : public testing::Test {
 protected:
  void SetUp() override {
    if (core::cpu().hardware != Isa::avx512) GTEST_SKIP() << "this CPU has no AVX-512";
    if (!hardware_tiles()) return test::interpret_tiles();
    const Features needed = Feature::amx_tile | Feature::amx_bf16 | Features(Feature::amx_int8);
    if (!core::features().has(needed)) GTEST_SKIP() << "this CPU or system has no AMX tiles";
  }
  void TearDown() override {
    if (IsSkipped()) return;
    if (hardware_tiles())
      EXPECT_EQ(test::interpreted_tiles(), 0);
    else
      EXPECT_GT(test::interpreted_tiles(), 0);
  }
};

class Amx : public Tiles, public testing::WithParamInterface<Precision> {};

/// What the engine is given: the tiles are there or interpreted.
Features features(bool native_bf16) {
  const Features has = core::hardware_features() | Feature::amx_tile | Feature::amx_bf16 | Feature::amx_int8;
  return native_bf16 ? has : Features(has.bits() & ~Features(Feature::avx512_bf16).bits());
}

struct Case {
  Linear layer;
  int depth = 64, rows = 64;  // of the choice
  int threads = 1;
  bool parts_first = false, in_place = true, native_bf16 = true, nan_row = false;

  std::string text() const {
    const Linear& l = layer;
    return std::string(name(l.precision)) + " " + std::to_string(l.rows) + "x" + std::to_string(l.inputs) +
           "x" + std::to_string(l.outputs) + " activation " + std::to_string(int(l.activation)) +
           " residual " + std::to_string(l.residual) + " result " + std::to_string(l.result) + " src " +
           std::string(name(l.src)) + " copy " + std::string(name(l.copy)) + " depth " +
           std::to_string(depth) + " rows " + std::to_string(rows) + " order " + std::to_string(parts_first) +
           " threads " + std::to_string(threads) + " bias " + std::to_string(l.bias) + " native " +
           std::to_string(native_bf16) + " nan " + std::to_string(nan_row);
  }
};

float fused(float a, float b, float c) {
  return std::fma(a, b, c);
}
float bf16(float x) {
  return core::to_float(core::from_float<core::Bf16>(x));
}
float bf16_at(const void* from) {
  core::Bf16 bits;
  std::memcpy(&bits, from, 2);
  return core::to_float(bits);
}
void put_bf16(float x, std::byte* to) {
  const core::Bf16 bits = core::from_float<core::Bf16>(x);
  std::memcpy(to, &bits, 2);
}

/// Where a value lies, written here once more: the header of core/tile_order.hpp in words.
std::size_t place(const Linear& l, Element type, std::int64_t channels, std::int64_t row,
                  std::int64_t channel) {
  if (!in_tiles(type)) return std::size_t(row * channels + channel) * size_of(type);
  const std::int64_t tiles = (l.rows + 31) / 32 * 2, height = (l.rows + tiles - 1) / tiles;
  const std::int64_t of_step = type == Element::u8_tiles ? 64 : 32,
                     line = type == Element::bf16x2_tiles ? 128 : 64;
  const std::int64_t piece =
      (row / (2 * height) * (channels / of_step) + channel / of_step) * 2 * height + row % (2 * height);
  return std::size_t(piece * line + channel % of_step * (64 / of_step));
}

/// Tensors of a case between inaccessible pages, and what should come of them.
class Trial {
 public:
  Trial(const Case& c, std::uint32_t seed) : c_(c), l_(c.layer), random_(seed) {
    make_weights();
    make_src();
    const std::size_t results = std::size_t(l_.rows) * l_.outputs;
    residual_.resize(results);
    for (float& r : residual_) r = number();
  }

  void go() {
    const std::size_t results = std::size_t(l_.rows) * l_.outputs;
    const Side side = random_() % 2 ? Side::begin : Side::end;
    test::guard_heap(side);  // what the engine packs
    Guarded src(src_.size(), side, random_() % 16 * size_of(l_.src)),
        dst(results * 4, side, random_() % 16 * 4),
        copy(core::tensor_bytes(l_.rows, l_.outputs, l_.copy), side, random_() % 64 * size_of(l_.copy)),
        other(results * 4, side, random_() % 16 * 4);
    std::memcpy(src.as(), src_.data(), src_.size());
    std::memcpy(c_.in_place ? dst.as() : other.as(), residual_.data(), results * 4);
    NarrowWeights weights =
        l_.precision == Precision::int8
            ? NarrowWeights(l_.outputs, l_.inputs, Int8Weights{int8_weights_, multiplier_, bias_, &input_})
            : NarrowWeights(l_.outputs, l_.inputs, l_.precision, weights_, bias_);
    const std::string choice = "amx depth=" + std::to_string(c_.depth) + " rows=" + std::to_string(c_.rows) +
                               " order=" + (c_.parts_first ? "parts" : "panels");
    const auto product = amx_linear(l_, weights, copy_, choice, c_.threads, features(c_.native_bf16));
    ASSERT_TRUE(product);
    Guarded scratch(core::round_up(product->scratch_bytes(), 64), Side::end);
    test::poison();
    product->run({{src.as(), l_.src},
                  l_.result ? dst.as<float>() : nullptr,
                  {l_.copy == Element::f32 ? nullptr : copy.as(), l_.copy},
                  l_.residual ? (c_.in_place ? dst.as<float>() : other.as<float>()) : nullptr,
                  scratch.as(),
                  {}});
    ASSERT_TRUE(src.intact() && dst.intact() && copy.intact() && other.intact() && scratch.intact());
    got_.assign(dst.as<float>(), dst.as<float>() + results);
    copied_.assign(copy.as<unsigned char>(), copy.as<unsigned char>() + copy.bytes());
  }

  void compare() {
    for (std::int64_t r = 0; r < l_.rows; r++)
      for (int o = 0; o < l_.outputs; o++)
        if (!right(r, o)) return;
  }

 private:
  float number() { return float(random_() >> 8) * 0x1p-23f - 1; }

  void make_weights() {
    const std::size_t count = std::size_t(l_.inputs) * l_.outputs;
    for (std::size_t i = 0; i < count; i++) {
      weights_.push_back(number());
      int8_weights_.push_back(std::int8_t(int(random_() % 255) - 127));
    }
    const bool int8 = l_.precision == Precision::int8;
    for (int o = 0; o < l_.outputs; o++) {
      if (l_.bias) bias_.push_back(number());
      if (int8) multiplier_.push_back((1 + number() / 2) / (127.0f * 64 * std::sqrt(float(l_.inputs))));
      copy_.scale.push_back(60 * (1 + number() / 2));
      copy_.offset.push_back(100 + 40 * number());
    }
    for (int i = 0; i < l_.inputs; i++) {
      input_.scale.push_back(100 * (1 + number() / 2));
      input_.offset.push_back(128 + 30 * number());
    }
  }

  /// src_ as bytes, operand_ as what is multiplied.
  void make_src() {
    const std::size_t count = std::size_t(l_.rows) * l_.inputs;
    // Rows that pad blocks are not numbers, and no one's.
    src_.resize(core::tensor_bytes(l_.rows, l_.inputs, l_.src), std::byte{0xff});
    nan_at_ = c_.nan_row ? std::int64_t(random_() % l_.rows) : -1;
    for (std::size_t i = 0; i < count; i++) {
      const std::size_t column = i % l_.inputs;
      float x = number();
      if (std::int64_t(i / l_.inputs) == nan_at_) x = std::numeric_limits<float>::quiet_NaN();
      const std::uint8_t q = without_order(l_.src) == Element::u8
                                 ? std::uint8_t(random_())
                                 : core::quantise(x, input_.scale[column], input_.offset[column], fused);
      std::byte* const to =
          src_.data() + place(l_, l_.src, l_.inputs, std::int64_t(i / l_.inputs), std::int64_t(column));
      if (l_.src == Element::f32)
        std::memcpy(to, &x, 4);
      else if (without_order(l_.src) == Element::u8)
        *to = std::byte(q);
      else
        put_bf16(x, to);
      if (l_.src == Element::bf16x2_tiles) put_bf16(x - bf16(x), to + 64);
      operand_.push_back(l_.precision == Precision::int8   ? float(q)
                         : l_.precision == Precision::bf16 ? bf16(x)
                                                           : x);
    }
  }

  /// Of one output, before what is rounded: the value, and how far a right one may be from it.
  struct Expected {
    double value = 0, tolerance = 0;
  };

  Expected expected(std::int64_t r, int o) const {
    double sum = 0, magnitude = 0;
    std::int64_t integer = 0;
    for (int i = 0; i < l_.inputs; i++) {
      const float a = operand_[std::size_t(r) * l_.inputs + i];
      const std::size_t at = std::size_t(o) * l_.inputs + i;
      if (l_.precision == Precision::int8) {
        integer += std::int64_t(a) * int8_weights_[at];
        continue;
      }
      const double product =
          double(a) * (l_.precision == Precision::bf16 ? bf16(weights_[at]) : weights_[at]);
      sum += product;
      magnitude += std::fabs(product);
    }
    const float residual = l_.residual ? residual_[std::size_t(r) * l_.outputs + o] : 0;
    if (l_.precision == Precision::int8) return {finished(integer, o) + residual, 0};
    if (!bias_.empty()) sum += bias_[o];
    // fp32 sums; of bf16x3 each operand is within 2^-18 of its sum of two, and a low times low part is left
    // out.
    const double each = l_.precision == Precision::bf16 ? 1e-6 : 1e-6 + 3 * 0x1p-18;
    Expected e{sum, each * (magnitude + 1)};
    if (l_.activation == Activation::relu) e.value = sum < 0 ? 0 : sum;
    if (l_.activation == Activation::gelu) {
      const bool narrow = l_.precision == Precision::bf16;
      e.value = narrow ? core::narrow_gelu(float(sum), fused) : sum * 0.5 * std::erfc(-sum * std::sqrt(0.5));
      e.tolerance = 1.2 * e.tolerance + 1e-6;
    }
    e.value += residual;
    return e;
  }

  /// The formula of int8 layers, in fp32.
  float finished(std::int64_t sum, int o) const {
    const float y = std::fma(float(sum), multiplier_[o], bias_[o]);
    if (l_.activation == Activation::relu) return core::relu(y);
    return l_.activation == Activation::gelu ? core::narrow_gelu(y, fused) : y;
  }

  bool right(std::int64_t r, int o) {
    const std::size_t at = std::size_t(r) * l_.outputs + o;
    const Expected e = expected(r, o);
    bool ok = true;
    const auto near = [&](double got, double slack) {
      if (std::isnan(e.value)) return std::isnan(got);
      return std::fabs(got - e.value) <= e.tolerance + slack;
    };
    if (l_.result && l_.precision == Precision::int8)
      ok = std::bit_cast<std::uint32_t>(got_[at]) == std::bit_cast<std::uint32_t>(rounded(e, at));
    else if (l_.result)
      ok = near(got_[at], 1e-6 * std::fabs(e.value));
    const std::size_t copied = place(l_, l_.copy, l_.outputs, r, o);
    const unsigned char* const from = copied_.data() + copied;
    if (without_order(l_.copy) == Element::bf16) ok &= near(bf16_at(from), std::fabs(e.value) * 0x1p-8);
    if (l_.copy == Element::bf16x2_tiles) {
      const double high = bf16_at(from);
      ok &= near(high, std::fabs(e.value) * 0x1p-8);
      ok &= near(high + bf16_at(from + 64), std::fabs(e.value) * 0x1p-16);
    }
    if (without_order(l_.copy) == Element::u8) ok &= right_u8(e, at, o, *from);
    EXPECT_TRUE(ok) << c_.text() << " row " << r << " output " << o << " expected " << e.value << " got "
                    << (l_.result ? got_[at] : *from);
    return ok;
  }

  /// The value of an int8 layer in fp32: the residual is added with one rounding.
  float rounded(const Expected& e, std::size_t at) const {
    if (!l_.residual) return float(e.value);
    const std::int64_t r = std::int64_t(at) / l_.outputs;
    std::int64_t sum = 0;
    const int o = int(at % l_.outputs);
    for (int i = 0; i < l_.inputs; i++)
      sum += std::int64_t(operand_[std::size_t(r) * l_.inputs + i]) *
             int8_weights_[std::size_t(o) * l_.inputs + i];
    return finished(sum, o) + residual_[at];
  }

  bool right_u8(const Expected& e, std::size_t at, int o, unsigned char got) const {
    const float scale = copy_.scale[o], offset = copy_.offset[o];
    if (l_.precision == Precision::int8) return got == core::quantise(rounded(e, at), scale, offset, fused);
    if (std::isnan(e.value)) return got == 0;
    const double wanted = std::clamp(e.value * scale + offset, 0.0, 255.0);
    return std::fabs(got - wanted) <= 0.5 + scale * e.tolerance + 1e-4;
  }

  Case c_;
  Linear l_;
  std::mt19937 random_;
  std::vector<float> weights_, bias_, multiplier_;
  Quantiser input_, copy_;
  std::vector<std::int8_t> int8_weights_;
  std::vector<std::byte> src_;
  std::vector<float> operand_, residual_, got_;
  std::vector<unsigned char> copied_;
  std::int64_t nan_at_ = -1;
};

/// Tensors in tiles have whole steps.
void drop_ragged_tiles(Linear& l) {
  const auto drop = [](Element& type, int channels) {
    const int step = type == Element::u8_tiles ? 64 : 32;
    if (in_tiles(type) && channels % step != 0)
      type = type == Element::bf16x2_tiles ? Element::f32 : without_order(type);
  };
  drop(l.src, l.inputs);
  drop(l.copy, l.outputs);
  if (l.copy == Element::f32) l.result = true;
}

Case random_case(Precision precision, std::mt19937& random) {
  const auto up_to = [&](int most) { return 1 + int(random() % unsigned(most)); };
  const auto coin = [&] { return random() % 2 == 0; };
  Case c;
  Linear& l = c.layer;
  l.precision = precision;
  l.rows = coin() ? up_to(40) : up_to(130);
  const int step = jit::tile_step(precision);
  l.inputs = coin() ? up_to(4) * step : up_to(4 * step);
  l.outputs = coin() ? up_to(4) * 32 : up_to(100);
  l.activation = Activation(random() % 3);
  l.residual = coin();
  const Element rows = precision == Precision::int8   ? Element::u8
                       : precision == Precision::bf16 ? Element::bf16
                                                      : Element::f32;
  const Element tiles = precision == Precision::int8   ? Element::u8_tiles
                        : precision == Precision::bf16 ? Element::bf16_tiles
                                                       : Element::bf16x2_tiles;
  l.src = coin() ? tiles : coin() ? rows : Element::f32;
  l.copy = Element(random() % 6);
  l.result = l.copy == Element::f32 || coin();
  c.depth = up_to(4) * step;
  c.rows = up_to(150);
  c.threads = up_to(4);
  l.bias = precision == Precision::int8 || coin();
  c.parts_first = coin();
  c.in_place = coin() && l.result;
  c.native_bf16 = coin();
  c.nan_row = precision != Precision::int8 && coin();
  drop_ragged_tiles(l);
  return c;
}

TEST_P(Amx, RandomShapes) {
  std::mt19937 random(17);
  for (int i = 0; i < 600; i++) {
    const Case c = random_case(GetParam(), random);
    Trial trial(c, random());
    trial.go();
    trial.compare();
    if (HasFailure()) return;
  }
}

// For a CPU that is itself emulated.
TEST_P(Amx, FewShapes) {
  std::mt19937 random(16);
  for (int i = 0; i < 5; i++) {
    Case c = random_case(GetParam(), random);
    c.layer.rows = 1 + c.layer.rows % 40;
    c.layer.outputs = 1 + c.layer.outputs % 40;
    drop_ragged_tiles(c.layer);
    Trial trial(c, random());
    trial.go();
    trial.compare();
  }
}

// Heights of tiles that networks have, and the smallest.
TEST_P(Amx, EdgeShapes) {
  std::mt19937 random(18);
  for (const int rows : {1, 2, 3, 16, 17, 31, 32, 33, 49, 64, 65, 196})
    for (const int inputs : {1, 2, 31, 32, 33, 63, 64, 65, 124, 128})
      for (const int outputs : {1, 15, 16, 17, 32, 33}) {
        if (random() % 8 != 0) continue;
        Case c = random_case(GetParam(), random);
        c.layer.rows = rows;
        c.layer.inputs = inputs;
        c.layer.outputs = outputs;
        drop_ragged_tiles(c.layer);
        Trial trial(c, random());
        trial.go();
        trial.compare();
        if (HasFailure()) return;
      }
}

// 24 tiles of 16 rows are 17 rows more than these: of the last block one tile is all padding, and one row of
// the other.
TEST_P(Amx, EdgeShapesWhoseLastTileIsPadding) {
  std::mt19937 random(22);
  Case c = random_case(GetParam(), random);
  c.layer.rows = 367;
  c.layer.inputs = 64;
  c.layer.outputs = 33;
  drop_ragged_tiles(c.layer);
  Trial trial(c, 22);
  trial.go();
  trial.compare();
}

// What bf16x3 is for: nearly fp32.
TEST_F(Tiles, ThreeProductsAreNearlyFp32) {
  const int rows = 49, inputs = 512, outputs = 64;
  std::mt19937 random(19);
  std::normal_distribution<float> normal;
  std::vector<float> a(std::size_t(rows) * inputs), w(std::size_t(outputs) * inputs),
      y(std::size_t(rows) * outputs);
  for (float& x : a) x = normal(random);
  for (float& x : w) x = normal(random);
  Linear layer;
  layer.precision = Precision::bf16x3;
  layer.rows = rows;
  layer.inputs = inputs;
  layer.outputs = outputs;
  layer.bias = false;
  NarrowWeights weights(outputs, inputs, layer.precision, w, {});
  const auto product =
      amx_linear(layer, weights, {}, "amx depth=512 rows=1000 order=panels", 1, features(true));
  core::Buffer<std::byte> scratch(product->scratch_bytes());
  product->run({a.data(), y.data(), nullptr, nullptr, scratch.data(), {}});
  double squares = 0, errors = 0;
  for (int r = 0; r < rows; r++)
    for (int o = 0; o < outputs; o++) {
      double sum = 0;
      for (int i = 0; i < inputs; i++)
        sum += double(a[std::size_t(r) * inputs + i]) * w[std::size_t(o) * inputs + i];
      squares += sum * sum;
      errors += std::pow(y[std::size_t(r) * outputs + o] - sum, 2);
    }
  const double relative = std::sqrt(errors / squares);
  std::printf("bf16x3: rms error %.2g of the output's rms\n", relative);
  EXPECT_LT(relative, 6e-6);
  EXPECT_GT(relative, 0);
}

INSTANTIATE_TEST_SUITE_P(, Amx, testing::Values(Precision::bf16, Precision::int8, Precision::bf16x3),
                         [](const auto& of) { return std::string(name(of.param)); });

}  // namespace
}  // namespace replk::dense
