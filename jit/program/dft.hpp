// Discrete Fourier transforms as recorded networks.
#pragma once
#include <span>
#include <string>
#include <vector>

#include "jit/program/program.hpp"

namespace replk::jit {

struct Complex {
  Real re, im;
};

/// How a transform is split: lengths whose product is n, outermost first. A split into coprime lengths is a
/// prime-factor one (Good 1958: no twiddles), any other is decimation in time. A length in the list is
/// computed whole: powers of two by split radix with conjugate pairs (Frigo and Johnson 2007), odd primes by
/// sums and differences of mirrored inputs, the rest by a default split of its own.
using Factors = std::vector<int>;
std::string to_string(const Factors& factors);  // 8x9
/// Empty unless the text is `AxBx..` with product n and every length in 2..320.
Factors parse_factors(std::string_view text, int n);

/// Splits worth trying for length n, the plain one (n whole) included.
std::vector<Factors> factor_choices(int n);

/// X[k] = sum_j x[j] exp(-2 pi i jk / n), n = x.size() = the product of factors. Real inputs (every im zero)
/// give conjugate-symmetric outputs at half the cost; zero inputs are pruned by the recording.
std::vector<Complex> dft(const std::vector<Complex>& x, std::span<const int> factors);

}  // namespace replk::jit
