// Against the formulas in double, at sizes with and without tails.
#include "elementwise/elementwise.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <vector>

#include "core/half.hpp"
#include "core/tile_order.hpp"
#include "tests/elementwise/values.hpp"

namespace replk::elementwise {
namespace {

TEST(LayerNorm, AnyWidthAndActivation) {
  for (int channels : {1, 3, 31, 32, 33, 96, 124, 768})
    for (Activation activation : {Activation::none, Activation::relu, Activation::gelu})
      for (int threads : {1, 2}) {
        const std::int64_t rows = 37;
        const Values src = random_values(rows * channels, 1, 3, 5), weight = random_values(channels, 2),
                     bias = random_values(channels, 3);
        std::vector<double> wanted;
        for (int r = 0; r < rows; r++) {
          const float* x = &src[r * channels];
          double mean = 0, variance = 0;
          for (int c = 0; c < channels; c++) mean += x[c];
          mean /= channels;
          for (int c = 0; c < channels; c++) variance += (x[c] - mean) * (x[c] - mean);
          variance /= channels;
          for (int c = 0; c < channels; c++) {
            const double y = (x[c] - mean) / std::sqrt(variance + 1e-6) * weight[c] + bias[c];
            wanted.push_back(activation == Activation::gelu   ? gelu(y)
                             : activation == Activation::relu ? std::max(y, 0.0)
                                                              : y);
          }
        }
        SCOPED_TRACE(channels);
        Values dst(src.size());
        layer_norm({rows, channels, 1e-6f, activation}, weight.data(), bias.data(), src.data(), dst.data(),
                   threads);
        expect_near(wanted, dst, 1e-6);
        Values in_place = src;
        layer_norm({rows, channels, 1e-6f, activation}, weight.data(), bias.data(), in_place.data(),
                   in_place.data(), threads);
        EXPECT_EQ(in_place, dst);
      }
}

const Map maps[] = {{1, 1, 1}, {2, 49, 64}, {3, 65, 31}, {1, 1000, 130}, {2, 7, 1000}};

TEST(GlobalMean, IsTheMeanWhateverTheThreads) {
  for (const Map& m : maps) {
    const Values src = random_values(m.images * m.pixels * m.channels, 1, 1, 10);
    std::vector<double> wanted(m.images * m.channels, 0);
    for (std::int64_t n = 0; n < m.images; n++)
      for (std::int64_t p = 0; p < m.pixels; p++)
        for (int c = 0; c < m.channels; c++)
          wanted[n * m.channels + c] += src[(n * m.pixels + p) * m.channels + c] / double(m.pixels);
    Values one(wanted.size()), two(wanted.size());
    global_mean(m, src.data(), one.data(), 1);
    global_mean(m, src.data(), two.data(), 2);
    expect_near(wanted, one, 1e-6);
    EXPECT_EQ(one, two);
  }
}

TEST(GlobalResponseNorm, WithAndWithoutBeta) {
  for (const Map& m : maps)
    for (bool with_beta : {false, true}) {
      const Values src = random_values(m.images * m.pixels * m.channels, 1),
                   gamma = random_values(m.channels, 2), beta = random_values(m.channels, 3);
      std::vector<double> wanted(src.size());
      for (std::int64_t n = 0; n < m.images; n++) {
        std::vector<double> norm(m.channels, 0);
        const auto at = [&](std::int64_t p, int c) { return (n * m.pixels + p) * m.channels + c; };
        for (std::int64_t p = 0; p < m.pixels; p++)
          for (int c = 0; c < m.channels; c++) norm[c] += double(src[at(p, c)]) * src[at(p, c)];
        double mean = 0;
        for (double& v : norm) mean += (v = std::sqrt(v)) / m.channels;
        for (std::int64_t p = 0; p < m.pixels; p++)
          for (int c = 0; c < m.channels; c++)
            wanted[at(p, c)] =
                (gamma[c] * norm[c] / (mean + 1e-6) + 1) * src[at(p, c)] + (with_beta ? beta[c] : 0);
      }
      Values dst(src.size()), scratch(m.images * m.channels);
      global_response_norm(m, gamma.data(), with_beta ? beta.data() : nullptr, 1e-6f, src.data(), dst.data(),
                           scratch.data(), 2);
      expect_near(wanted, dst, 1e-6);
    }
}

/// The place of a value in tiles, from the first lines of core/tile_order.hpp: 77 rows are blocks of 26.
std::size_t place(Element type, std::int64_t row, std::int64_t channel, std::int64_t channels) {
  const std::int64_t of_step = type == Element::u8_tiles ? 64 : 32,
                     piece = type == Element::bf16x2_tiles ? 128 : 64;
  const std::int64_t pieces = (row / 26 * (channels / of_step) + channel / of_step) * 26 + row % 26;
  return std::size_t(pieces * piece + channel % of_step * (64 / of_step));
}
float bf16_at(const std::byte* from) {
  core::Bf16 half;
  std::memcpy(&half, from, sizeof half);
  return core::to_float(half);
}

TEST(NarrowCopy, TilesHoldWhatRowsHold) {
  constexpr std::int64_t rows = 77;
  constexpr int channels = 320;  // more than a piece of a row that is computed at once
  const Values src = random_values(rows * channels, 1, 3, 5), weight = random_values(channels, 2),
               bias = random_values(channels, 3), scale(channels, 40.0f), offset(channels, 100.0f);
  const auto run = [&](bool grn, const NarrowCopy& copy) {
    Values scratch(channels);
    if (grn)
      global_response_norm({1, rows, channels}, weight.data(), 1e-6f, src.data(), copy, scratch.data(), 1);
    else
      layer_norm({rows, channels, 1e-6f, Activation::none}, weight.data(), bias.data(), src.data(), copy, 2);
  };
  for (const bool grn : {false, true})
    for (const Element type : {Element::bf16_tiles, Element::u8_tiles, Element::bf16x2_tiles}) {
      SCOPED_TRACE(name(type));
      const core::TileOrder order(rows, channels, type);
      std::vector<std::byte> tiles(order.bytes(), std::byte{0x5a});
      const Element in_rows = type == Element::u8_tiles ? Element::u8 : Element::bf16;
      std::vector<std::byte> wanted(rows * channels * size_of(in_rows));
      run(grn, {{tiles.data(), type}, scale.data(), offset.data(), order});
      run(grn, {{wanted.data(), in_rows}, scale.data(), offset.data()});
      Values exact(rows * channels), scratch(channels);
      if (grn)
        global_response_norm({1, rows, channels}, weight.data(), nullptr, 1e-6f, src.data(), exact.data(),
                             scratch.data(), 1);
      else
        layer_norm({rows, channels, 1e-6f, Activation::none}, weight.data(), bias.data(), src.data(),
                   exact.data(), 1);
      for (std::int64_t r = 0; r < rows; r++)
        for (int c = 0; c < channels; c++) {
          const std::size_t at = std::size_t(r * channels + c);
          const std::byte* const got = tiles.data() + place(type, r, c, channels);
          ASSERT_EQ(std::memcmp(got, &wanted[at * size_of(in_rows)], size_of(in_rows)), 0) << r << " " << c;
          if (type == Element::bf16x2_tiles) {
            ASSERT_NEAR(bf16_at(got) + bf16_at(got + 64), exact[at], std::abs(exact[at]) * 0x1p-16);
          }
        }
    }
}

TEST(Gate, MultipliesByTheSigmoid) {
  for (const Map& m : maps) {
    const Values src = random_values(m.images * m.pixels * m.channels, 1),
                 logits = random_values(m.images * m.channels, 2);
    std::vector<double> wanted;
    for (std::size_t i = 0; i < src.size(); i++) {
      const std::size_t image = i / (m.pixels * m.channels), c = i % m.channels;
      wanted.push_back(src[i] / (1 + std::exp(-double(logits[image * m.channels + c]))));
    }
    Values dst(src.size());
    gate(m, logits.data(), src.data(), dst.data(), 2);
    expect_near(wanted, dst, 1e-6);
  }
}

TEST(Activate, EveryElementOnceAndNaNsStay) {
  const float nan = std::numeric_limits<float>::quiet_NaN();
  for (std::size_t count : {1, 7, 4096, 9001}) {
    Values src = random_values(count, 1, 4);
    src[count / 2] = nan;
    Values gelus(count), relus(count), copies(count), clamped(count);
    activate(std::int64_t(count), Activation::gelu, src.data(), gelus.data(), 2);
    activate(std::int64_t(count), Activation::relu, src.data(), relus.data(), 2);
    activate(std::int64_t(count), Activation::none, src.data(), copies.data(), 2);
    clamp_above(std::int64_t(count), 2.5f, src.data(), clamped.data(), 2);
    Values in_place = src;  // where an element that is done twice shows
    activate(std::int64_t(count), Activation::gelu, in_place.data(), in_place.data(), 2);
    EXPECT_EQ(std::memcmp(in_place.data(), gelus.data(), count * sizeof(float)), 0);
    for (std::size_t i = 0; i < count; i++) {
      if (i == count / 2) {
        EXPECT_TRUE(std::isnan(gelus[i]) && std::isnan(relus[i]) && std::isnan(copies[i]) &&
                    std::isnan(clamped[i]));
        continue;
      }
      ASSERT_NEAR(gelus[i], gelu(src[i]), 1e-7 * std::max(1.0f, std::abs(src[i]))) << src[i];
      ASSERT_EQ(relus[i], std::max(src[i], 0.0f));
      ASSERT_EQ(copies[i], src[i]);
      ASSERT_EQ(clamped[i], std::min(src[i], 2.5f));
    }
  }
}

}  // namespace
}  // namespace replk::elementwise
