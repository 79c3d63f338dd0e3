// A fused multiply-add for machines without one, with std::fma's bits, in operations that vectorise.
#pragma once
#include <bit>
#include <cstdint>

namespace replk::core {

/// a * b + c rounded once. The product is exact in double; the sum is rounded to odd (Boldo and Melquiond,
/// "Emulation of a FMA and correctly rounded sums", IEEE Trans. Computers 57, 2008), so that narrowing it
/// rounds correctly.
inline float emulated_fma(float a, float b, float c) {
  const double product = static_cast<double>(a) * b;
  const double sum = product + c;
  const double back = sum - product;
  const double error = (product - (sum - back)) + (c - back);  // exact; NaN where the sum is not finite
  const auto bits = std::bit_cast<std::uint64_t>(sum);
  const bool inexact = (error > 0) | (error < 0);
  const std::uint64_t step = (error > 0) == (sum > 0) ? 1 : ~std::uint64_t{0};
  return static_cast<float>(std::bit_cast<double>(bits + ((inexact & ((bits & 1) == 0)) ? step : 0)));
}

}  // namespace replk::core
