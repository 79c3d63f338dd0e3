// Against the formulas in double, at sizes with and without tails.
#include "elementwise/elementwise.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <vector>

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
