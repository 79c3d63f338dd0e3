// GELU, the exact (erf) form, as one fixed sequence of fp32 operations. The portable code calls gelu();
// generated code emits the same operations on vectors with the same constants, so both give the same bits.
#pragma once
#include <iterator>

namespace replk::core {

// gelu(x) = x * Phi(x) = max(x, 0) - bump(|x|), where bump(t) = t * (1 - Phi(t)) is at most 0.17 and below
// 6e-9 from t = 6 on: so its error is small beside the result's rounding. bump(t) = t * (6 - t) * P(t / 3 -
// 1), P a minimax polynomial (Lawson's iteration, weight t * (6 - t)); the factor 6 - t makes it exactly 0
// from 6 on. The error of the whole is at most 1e-7 * max(1, |x|) and
// 2e-7 * |x|: a channel of small values keeps its relative accuracy.
constexpr float gelu_limit = 6.0f, gelu_scale = 1.0f / 3.0f;
constexpr float gelu_coefficients[] = {
    0x1.d7d2b8p-12f, -0x1.04f4e4p-8f, 0x1.05838p-6f,   -0x1.30e99cp-5f,  0x1.ae402cp-5f,
    -0x1.30e8cep-5f, -0x1.4fe33p-7f,  0x1.a3be02p-5f,  -0x1.6abef6p-5f,  -0x1.50e874p-9f,
    0x1.3480b6p-5f,  -0x1.acb30cp-6f, -0x1.2782fep-7f, 0x1.4f6136p-6f,   -0x1.e8a0bap-9f,
    -0x1.e166a8p-8f, 0x1.8168e2p-9f,  0x1.2842bap-10f, -0x1.343542p-11f,
};
constexpr int gelu_degree = static_cast<int>(std::size(gelu_coefficients)) - 1;

/// Minimum and maximum as minps and maxps define them: the second operand where either is a NaN or both are
/// zeros.
inline float min_second(float a, float b) {
  return a < b ? a : b;
}
inline float max_second(float a, float b) {
  return a > b ? a : b;
}

/// NaN gives NaN, +infinity itself, -infinity 0. `fma` is any function with std::fma's result.
template <class Fma>
inline float gelu(float x, Fma fma) {
  const float t = min_second(gelu_limit, __builtin_fabsf(x));
  const float u = fma(t, gelu_scale, -1.0f);
  float p = gelu_coefficients[gelu_degree];
  for (int i = gelu_degree - 1; i >= 0; i--) p = fma(p, u, gelu_coefficients[i]);
  return max_second(0.0f, x) - (t * (gelu_limit - t)) * p;
}

// For layers whose operands are narrow: bump(t) = t * (c1 + c2 t + ... + c7 t^6) up to t = 3.84 and constant
// from there on (Lawson's iteration, equal weights). The error is at most 1.3e-4, and 2.8e-3 of gelu(x)
// where |x| < 1: a bf16 rounds by 2e-3 of the value, a u8 by some 1e-2.
constexpr float narrow_gelu_limit = 0x1.eb851ep+1f;
constexpr float narrow_gelu_coefficients[] = {
    0x1.fe9702p-2f,  -0x1.8705b6p-2f, -0x1.d8bfecp-5f,  0x1.36730cp-3f,
    -0x1.fd76f4p-5f, 0x1.62ef8cp-7f,  -0x1.75dc46p-11f,
};
constexpr int narrow_gelu_terms = static_cast<int>(std::size(narrow_gelu_coefficients));

/// NaN gives NaN, +infinity itself, -infinity a value within the error of 0.
template <class Fma>
inline float narrow_gelu(float x, Fma fma) {
  const float t = min_second(narrow_gelu_limit, __builtin_fabsf(x));
  float p = narrow_gelu_coefficients[narrow_gelu_terms - 1];
  for (int i = narrow_gelu_terms - 2; i >= 0; i--) p = fma(p, t, narrow_gelu_coefficients[i]);
  return fma(-t, p, max_second(x, 0.0f));
}

/// The derivative of gelu(): that of the polynomial, within 1e-6 of gelu's own. At 0 it is 0.5; from 6 on 1
/// or 0.
template <class Fma>
inline float gelu_slope(float x, Fma fma) {
  const float t = min_second(gelu_limit, __builtin_fabsf(x));
  const float u = fma(t, gelu_scale, -1.0f);
  float p = gelu_coefficients[gelu_degree], slope = 0.0f;  // of P, and by u
  for (int i = gelu_degree - 1; i >= 0; i--) {
    slope = fma(slope, u, p);
    p = fma(p, u, gelu_coefficients[i]);
  }
  const float bump = (gelu_limit - 2.0f * t) * p + (t * (gelu_limit - t)) * (slope * gelu_scale);
  const float inner = t < gelu_limit ? bump : t - gelu_limit;  // the difference is 0, or NaN
  return x > 0.0f ? 1.0f - inner : inner;
}

/// ReLU that passes NaN on.
inline float relu(float x) {
  return max_second(0.0f, x);
}

}  // namespace replk::core
