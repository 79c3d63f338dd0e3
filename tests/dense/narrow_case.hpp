// A linear layer with narrow operands, its data, and what its results must be: written here once more, from
// the definition (dense.hpp).
#pragma once
#include <cmath>
#include <cstdint>
#include <cstring>
#include <memory>
#include <random>
#include <string>
#include <vector>

#include "core/gelu.hpp"
#include "core/half.hpp"
#include "core/memory.hpp"
#include "dense/dense.hpp"

namespace replk::dense {

/// How operands and weights are filled.
enum class Filling { noise, constant, extreme, large_mean };

inline float fused(float a, float b, float c) {
  return std::fma(a, b, c);
}
inline float rounded(float x) {
  return core::to_float(core::from_float<core::Bf16>(x));
}

struct NarrowCase {
  Linear linear;
  std::vector<float> src, weights, bias, multiplier, residual;  // weights of int8: whole numbers
  Quantiser input, copy;
  std::shared_ptr<LinearWeights> packed;

  NarrowCase(const Linear& l, Filling filling, unsigned seed) : linear(l) {
    std::mt19937 random(seed);
    std::uniform_real_distribution<float> uniform(-1, 1);
    const bool int8 = l.precision == Precision::int8;
    const std::size_t inputs = std::size_t(l.inputs), outputs = std::size_t(l.outputs);
    const auto fill = [&](std::vector<float>& values, std::size_t count) {
      values.resize(count);
      for (float& v : values) v = uniform(random);
    };
    fill(src, std::size_t(l.rows) * inputs);
    fill(weights, inputs * outputs);
    fill(bias, l.bias ? outputs : 0);
    fill(residual, l.residual ? std::size_t(l.rows) * outputs : 0);
    fill(input.scale, inputs);
    fill(input.offset, inputs);
    fill(copy.scale, outputs);
    fill(copy.offset, outputs);
    for (std::size_t i = 0; i < inputs; i++) {
      input.scale[i] = 100 + 40 * input.scale[i];
      input.offset[i] = 128 + 20 * input.offset[i];
    }
    for (std::size_t o = 0; o < outputs; o++) {
      copy.scale[o] = 60 + 50 * copy.scale[o];
      copy.offset[o] = 40 + 30 * copy.offset[o];
    }
    for (float& v : src) {
      if (filling == Filling::constant) v = 0.7f;
      if (filling == Filling::extreme) v = 1000;
      if (filling == Filling::large_mean) v += 30;
    }
    for (float& v : weights) {
      if (filling == Filling::constant) v = 0.3f;
      if (filling == Filling::extreme) v = random() % 8 ? 1 : -1;
      if (int8) v = std::round(127 * v);
    }
    multiplier.assign(outputs, 1.0f);
    for (std::size_t o = 0; int8 && o < outputs; o++)
      multiplier[o] = (1 + 0.5f * uniform(random)) / (5000 * std::sqrt(float(inputs)));
    if (!int8) {
      packed = std::make_shared<LinearWeights>(l.inputs, l.outputs, weights, bias, l.precision);
      return;
    }
    const std::vector<std::int8_t> values(weights.begin(), weights.end());
    packed =
        std::make_shared<LinearWeights>(l.inputs, l.outputs, Int8Weights{values, multiplier, bias, &input});
  }

  /// What the products see of src.
  float operand(std::size_t at) const {
    return linear.precision == Precision::int8 ? quantised(src[at], input, at % std::size_t(linear.inputs))
                                               : rounded(src[at]);
  }
  static float quantised(float x, const Quantiser& q, std::size_t channel) {
    const float y = std::fma(x, q.scale[channel], q.offset[channel]);
    return y >= 0 ? std::fmin(std::nearbyint(y), 255.0f) : 0;
  }
  /// src in the type that the layer takes.
  std::vector<std::byte> typed_src() const {
    std::vector<std::byte> bytes(src.size() * size_of(linear.src));
    for (std::size_t i = 0; i < src.size(); i++) {
      const auto half = core::from_float<core::Bf16>(src[i]);
      const auto byte = static_cast<std::uint8_t>(linear.src == Element::u8 ? operand(i) : 0);
      const void* from = linear.src == Element::f32  ? static_cast<const void*>(&src[i])
                         : linear.src == Element::u8 ? static_cast<const void*>(&byte)
                                                     : &half;
      std::memcpy(&bytes[i * size_of(linear.src)], from, size_of(linear.src));
    }
    return bytes;
  }

  /// The result of an int8 layer, bit for bit.
  std::vector<float> exact() const {
    std::vector<float> y;
    const std::size_t inputs = std::size_t(linear.inputs);
    for (std::size_t r = 0; r < std::size_t(linear.rows); r++) {
      std::vector<std::int32_t> x(inputs);
      for (std::size_t i = 0; i < inputs; i++) x[i] = std::int32_t(operand(r * inputs + i));
      for (std::size_t o = 0; o < std::size_t(linear.outputs); o++) {
        std::int32_t sum = 0;
        for (std::size_t i = 0; i < inputs; i++) sum += x[i] * std::int32_t(weights[o * inputs + i]);
        float value = std::fma(float(sum), multiplier[o], bias[o]);
        if (linear.activation == Activation::relu) value = core::relu(value);
        if (linear.activation == Activation::gelu) value = core::narrow_gelu(value, fused);
        y.push_back(linear.residual ? value + residual[y.size()] : value);
      }
    }
    return y;
  }

  /// Of a bf16 layer: the exact sums of the rounded operands, and how far a result may be from them.
  struct Bounds {
    std::vector<double> value, error;
  };
  Bounds bounds() const {
    Bounds all;
    const std::size_t inputs = std::size_t(linear.inputs);
    for (std::size_t r = 0; r < std::size_t(linear.rows); r++)
      for (std::size_t o = 0; o < std::size_t(linear.outputs); o++) {
        double sum = linear.bias ? bias[o] : 0, magnitude = 0;
        for (std::size_t i = 0; i < inputs; i++) {
          const double product = double(operand(r * inputs + i)) * rounded(weights[o * inputs + i]);
          sum += product;
          magnitude += std::abs(product);
        }
        double value = sum;
        if (linear.activation == Activation::relu) value = std::fmax(sum, 0);
        if (linear.activation == Activation::gelu) value = gelu(sum);
        const double added = linear.residual ? residual[all.value.size()] : 0;
        // GELU is steeper than 1, by 1.13; bias, polynomial and residual round a few times more.
        const double steps = 0x1p-22 * (std::abs(sum) + std::abs(added) + (linear.bias ? 1 : 0));
        all.error.push_back((linear.activation == Activation::gelu ? 1.13 : 1) * 1e-6 * magnitude + steps);
        all.value.push_back(value + added);
      }
    return all;
  }

 private:
  static double gelu(double x) {
    const double t = std::fmin(core::narrow_gelu_limit, std::abs(x));
    double p = 0;
    for (int i = core::narrow_gelu_terms - 1; i >= 0; i--) p = p * t + core::narrow_gelu_coefficients[i];
    return std::fmax(x, 0) - t * p;
  }
};

}  // namespace replk::dense
