// Gradients against central differences of the formulas in double.
#include "elementwise/gradient.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <functional>
#include <limits>
#include <vector>

#include "tests/elementwise/values.hpp"

namespace replk::elementwise {
namespace {

double activated(double x, Activation activation) {
  return activation == Activation::gelu ? gelu(x) : activation == Activation::relu ? std::max(x, 0.0) : x;
}

/// The gradient by src of the sum of gradient * function(src).
Doubles by_differences(const std::function<Doubles(const Doubles&)>& function, const Values& src,
                       const Values& gradient) {
  Doubles x(src.begin(), src.end()), result;
  const auto sum = [&] {
    const Doubles y = function(x);
    double sum = 0;
    for (std::size_t i = 0; i < y.size(); i++) sum += gradient[i] * y[i];
    return sum;
  };
  constexpr double step = 1e-5;
  for (double& value : x) {
    const double before = value;
    value = before + step;
    const double above = sum();
    value = before - step;
    result.push_back((above - sum()) / (2 * step));
    value = before;
  }
  return result;
}

TEST(LayerNormGradient, AnyWidthAndActivation) {
  for (int channels : {3, 31, 33, 70})
    for (Activation activation : {Activation::none, Activation::relu, Activation::gelu}) {
      SCOPED_TRACE(channels);
      const std::int64_t rows = 2;
      const Values src = random_values(rows * channels, 1, 3, 5), weight = random_values(channels, 2),
                   bias = random_values(channels, 3);
      Values gradient = random_values(src.size(), 4);
      const auto norm = [&](const Doubles& x) {
        Doubles y;
        for (int r = 0; r < rows; r++) {
          double mean = 0, variance = 0;
          for (int c = 0; c < channels; c++) mean += x[r * channels + c] / channels;
          for (int c = 0; c < channels; c++) variance += std::pow(x[r * channels + c] - mean, 2) / channels;
          for (int c = 0; c < channels; c++)
            y.push_back(activated(
                (x[r * channels + c] - mean) / std::sqrt(variance + 1e-6) * weight[c] + bias[c], activation));
        }
        return y;
      };
      const Doubles wanted = by_differences(norm, src, gradient);
      layer_norm_gradient({rows, channels, 1e-6f, activation}, weight.data(), bias.data(), src.data(),
                          gradient.data(), 2);
      expect_near(wanted, gradient, 1e-5);
    }
}

TEST(GlobalResponseNormGradient, ManyImagesAndChannels) {
  for (const Map& m : {Map{1, 1, 1}, Map{1, 7, 3}, Map{2, 3, 70}, Map{3, 2, 16}, Map{1, 70, 5}}) {
    SCOPED_TRACE(m.channels);
    const Values src = random_values(m.images * m.pixels * m.channels, 1),
                 gamma = random_values(m.channels, 2);
    Values gradient = random_values(src.size(), 3);
    const auto norm = [&](const Doubles& x) {
      Doubles y(x.size());
      for (std::int64_t n = 0; n < m.images; n++) {
        const std::int64_t first = n * m.pixels * m.channels;
        Doubles norms(m.channels);
        double mean = 0;
        for (int c = 0; c < m.channels; c++) {
          for (std::int64_t p = 0; p < m.pixels; p++) norms[c] += std::pow(x[first + p * m.channels + c], 2);
          norms[c] = std::sqrt(norms[c]);
          mean += norms[c] / m.channels;
        }
        for (std::int64_t i = 0; i < m.pixels * m.channels; i++)
          y[first + i] = x[first + i] * (gamma[i % m.channels] * norms[i % m.channels] / (mean + 1e-6) + 1);
      }
      return y;
    };
    const Doubles wanted = by_differences(norm, src, gradient);
    Values scratch(2 * m.images * m.channels);
    global_response_norm_gradient(m, gamma.data(), 1e-6f, src.data(), gradient.data(), scratch.data(), 2);
    expect_near(wanted, gradient, 1e-5);
  }
}

TEST(GlobalResponseNormGradient, OfAChannelThatIsZero) {
  const Map m{1, 2, 2};
  const Values src{0, 1, 0, 2}, gamma{1, 1};
  Values gradient{1, 1, 1, 1}, scratch(4);
  global_response_norm_gradient(m, gamma.data(), 1e-6f, src.data(), gradient.data(), scratch.data(), 1);
  for (float value : gradient) EXPECT_TRUE(std::isfinite(value));
  EXPECT_FLOAT_EQ(gradient[0], 1);
}

TEST(Channels, ProductsAndScales) {
  const Map m{2, 70, 67};
  const Values a = random_values(m.images * m.pixels * m.channels, 1), b = random_values(a.size(), 2),
               factors = random_values(m.images * m.channels, 3), offsets = random_values(factors.size(), 4);
  Doubles products(factors.size()), scaled;
  for (std::size_t i = 0; i < a.size(); i++) {
    const std::size_t at = i / (m.pixels * m.channels) * m.channels + i % m.channels;
    products[at] += double(a[i]) * b[i];
    scaled.push_back(double(a[i]) * factors[at] + offsets[at]);
  }
  Values found(products.size()), dst = a;
  channel_products(m, a.data(), b.data(), found.data(), 2);
  expect_near(products, found, 1e-6);
  scale_channels(m, factors.data(), offsets.data(), dst.data(), dst.data(), 2);
  expect_near(scaled, dst, 1e-6);
}

TEST(ActivationGradients, EveryElementOnceAndNaNsStay) {
  const float nan = std::numeric_limits<float>::quiet_NaN();
  for (std::size_t count : {1, 7, 64, 65, 4096, 9001}) {
    Values src = random_values(count, 1, 4);
    src[count / 2] = nan;
    if (count > 10) src[3] = 0.0f;
    const Values ones(count, 1.0f);
    Values of_gelu = ones, of_relu = ones, of_clamp = ones;
    std::vector<std::uint64_t> signs((count + 63) / 64);
    gelu_gradient(std::int64_t(count), src.data(), of_gelu.data(), 2);
    pack_signs(std::int64_t(count), src.data(), signs.data(), 2);
    relu_gradient(std::int64_t(count), signs.data(), of_relu.data(), 2);
    clamp_above_gradient(std::int64_t(count), 2.5f, src.data(), of_clamp.data(), 2);
    for (std::size_t i = 0; i < count; i++) {
      if (i == count / 2) {
        EXPECT_TRUE(std::isnan(of_gelu[i]));
        EXPECT_EQ(of_relu[i], 1.0f);
        continue;
      }
      const double x = src[i];
      ASSERT_NEAR(of_gelu[i],
                  0.5 * std::erfc(-x * std::sqrt(0.5)) + x * std::exp(-x * x / 2) / std::sqrt(2 * M_PI), 1e-6)
          << x;
      ASSERT_EQ(of_relu[i], x > 0 ? 1.0f : 0.0f);
      ASSERT_EQ(of_clamp[i], x < 2.5f ? 1.0f : 0.0f);
    }
  }
}

}  // namespace
}  // namespace replk::elementwise
