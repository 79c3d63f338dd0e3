#include "jit/program/dft.hpp"

#include <algorithm>
#include <charconv>
#include <cmath>
#include <numbers>
#include <numeric>
#include <optional>

namespace replk::jit {
namespace {

using Signal = std::vector<Complex>;
using Spectrum = std::vector<std::optional<Complex>>;  // of a real signal, filled by symmetry at the end

Complex operator+(Complex a, Complex b) {
  return {a.re + b.re, a.im + b.im};
}
Complex operator-(Complex a, Complex b) {
  return {a.re - b.re, a.im - b.im};
}
Complex operator*(double s, Complex a) {
  return {s * a.re, s * a.im};
}
Complex times_minus_i(Complex a) {
  return {a.im, -a.re};
}
Complex conjugate(Complex a) {
  return {a.re, -a.im};
}

double cosine(int k, int n) {
  return std::cos(2 * std::numbers::pi * (k % n) / n);
}
double sine(int k, int n) {
  return std::sin(2 * std::numbers::pi * (k % n) / n);
}

/// a * exp(-2 pi i k / n), or its conjugate twiddle's product.
Complex twiddle(Complex a, int k, int n, bool conjugated = false) {
  const double c = cosine(k, n), s = conjugated ? -sine(k, n) : sine(k, n);
  if (!a.re.zero() && !a.im.zero() && std::abs(std::abs(c) - std::abs(s)) < 1e-12) {
    // An odd eighth of the circle: two sums, then two multiplications, where fusing would need three
    // constants.
    const double r = std::abs(c), cs = c > 0 ? 1 : -1, ss = s > 0 ? 1 : -1;
    return {r * (cs * a.re + ss * a.im), r * (cs * a.im - ss * a.re)};
  }
  return {c * a.re + s * a.im, c * a.im - s * a.re};
}

bool is_real(const Signal& x) {
  return std::all_of(x.begin(), x.end(), [](const Complex& v) { return v.im.zero(); });
}

Signal complete(const Spectrum& half) {
  const int n = static_cast<int>(half.size());
  Signal whole(n);
  for (int k = 0; k < n; k++) whole[k] = half[k] ? *half[k] : conjugate(*half[(n - k) % n]);
  return whole;
}

Signal dft_odd(const Signal& x) {
  const int n = static_cast<int>(x.size()), h = (n - 1) / 2;
  Signal even(h + 1), odd(h + 1), out(n);
  out[0] = x[0];
  for (int j = 1; j <= h; j++) {
    even[j] = x[j] + x[n - j];
    odd[j] = x[j] - x[n - j];
    out[0] = out[0] + even[j];
  }
  for (int k = 1; k <= h; k++) {
    Complex p = x[0], q;
    for (int j = 1; j <= h; j++) {
      p = p + cosine(j * k, n) * even[j];
      q = q + sine(j * k, n) * odd[j];
    }
    out[k] = p + times_minus_i(q);
    out[n - k] = p - times_minus_i(q);
  }
  return out;
}

Signal split_radix(const Signal& x) {
  const int n = static_cast<int>(x.size()), q = n / 4;
  if (n == 1) return x;
  if (n == 2) return {x[0] + x[1], x[0] - x[1]};
  Signal even, a, b;  // b starts at -1: its twiddles are the conjugates of a's
  for (int i = 0; i < n / 2; i++) even.push_back(x[2 * i]);
  for (int i = 0; i < q; i++) a.push_back(x[4 * i + 1]);
  for (int i = 0; i < q; i++) b.push_back(x[(4 * i - 1 + n) % n]);
  const Signal E = split_radix(even), A = split_radix(a), B = split_radix(b);
  const bool real = is_real(x);
  Spectrum out(n);
  for (int k = 0; k < q; k++) {
    if (real && k > q / 2) continue;
    const Complex wa = twiddle(A[k], k, n), wb = twiddle(B[k], k, n, true);
    const Complex s = wa + wb, d = times_minus_i(wa - wb);
    out[k] = E[k] + s;
    out[k + 2 * q] = E[k] - s;
    out[k + q] = E[k + q] + d;
    out[k + 3 * q] = E[k + q] - d;
  }
  return complete(out);
}

Signal prime_factor(const Signal& x, int r, std::span<const int> inner) {
  const int n = static_cast<int>(x.size()), m = n / r;
  std::vector<Signal> rows;
  for (int i = 0; i < r; i++) {
    Signal row;
    for (int j = 0; j < m; j++) row.push_back(x[(m * i + r * j) % n]);
    rows.push_back(dft(row, inner));
  }
  const bool real = is_real(x);
  Spectrum out(n);
  for (int k2 = 0; k2 < m; k2++) {
    if (real && k2 > m / 2) continue;
    Signal column;
    for (int i = 0; i < r; i++) column.push_back(rows[i][k2]);
    const int outer[] = {r};
    const Signal z = dft(column, outer);
    for (int k = k2; k < n; k += m) out[k] = z[k % r];
  }
  return complete(out);
}

Signal decimate(const Signal& x, int r, std::span<const int> inner) {
  const int n = static_cast<int>(x.size()), m = n / r;
  std::vector<Signal> parts;
  for (int j = 0; j < r; j++) {
    Signal part;
    for (int i = 0; i < m; i++) part.push_back(x[j + r * i]);
    parts.push_back(dft(part, inner));
  }
  const bool real = is_real(x);
  Spectrum out(n);
  for (int k = 0; k < m; k++) {
    if (real && k > m / 2) continue;
    Signal column;
    for (int j = 0; j < r; j++) column.push_back(twiddle(parts[j][k], j * k, n));
    const int outer[] = {r};
    const Signal z = dft(column, outer);
    for (int q = 0; q < r; q++) out[k + m * q] = z[q];
  }
  return complete(out);
}

bool is_power_of_two(int n) {
  return (n & (n - 1)) == 0;
}

int smallest_divisor(int n) {
  for (int d = 2; d * d <= n; d++)
    if (n % d == 0) return d;
  return n;
}

/// A length computed whole: its largest power of one prime against the rest, or prime by prime.
Factors default_split(int n) {
  const int p = smallest_divisor(n);
  int power = p;
  while (n % (power * p) == 0) power *= p;
  if (power < n) return {power, n / power};
  return {p, n / p};
}

}  // namespace

std::string to_string(const Factors& factors) {
  std::string text;
  for (int f : factors) text += (text.empty() ? "" : "x") + std::to_string(f);
  return text;
}

Factors parse_factors(std::string_view text, int n) {
  Factors factors;
  std::int64_t product = 1;
  const char *at = text.data(), *end = at + text.size();
  while (true) {
    int f = 0;
    const auto [next, error] = std::from_chars(at, end, f);
    if (error != std::errc() || f < 2 || f > 320) return {};
    factors.push_back(f);
    product *= f;
    if (product > n) return {};
    if (next == end) return product == n ? factors : Factors{};
    if (*next != 'x') return {};
    at = next + 1;
  }
}

std::vector<Factors> factor_choices(int n) {
  std::vector<Factors> choices{{n}};
  for (int r = 2; r <= 16; r++) {
    if (n % r != 0 || n / r < 2) continue;
    const int m = n / r;
    if (Factors{r, m} != default_split(n)) choices.push_back({r, m});
    if (m > 16)
      for (int s = 2; s <= 16; s++)
        if (m % s == 0 && m / s >= 2 && m / s <= 16) choices.push_back({r, s, m / s});
  }
  return choices;
}

std::vector<Complex> dft(const std::vector<Complex>& x, std::span<const int> factors) {
  const int n = static_cast<int>(x.size());
  if (n == 1) return x;
  const auto split = [&](int r, std::span<const int> inner) {
    return std::gcd(r, n / r) == 1 ? prime_factor(x, r, inner) : decimate(x, r, inner);
  };
  if (factors.size() > 1) return split(factors[0], factors.subspan(1));
  if (is_power_of_two(n)) return split_radix(x);
  if (smallest_divisor(n) == n) return dft_odd(x);
  const Factors whole = default_split(n);
  return split(whole[0], std::span(whole).subspan(1));
}

}  // namespace replk::jit
