#include "jit/kernels/toeplitz_product.hpp"

namespace replk::jit {
namespace {

/// Taps at distances 2d + shift, less those at 2d where asked.
Taps halve(const Taps& taps, int shift, bool less_even) {
  Taps half;
  for (const auto& [distance, tap] : taps)
    if ((distance - shift) % 2 == 0) half[(distance - shift) >> 1] = tap;
  if (!less_even) return half;
  for (const auto& [distance, tap] : taps) {
    if (distance % 2 != 0) continue;
    std::shared_ptr<Weight>& place = half[distance >> 1];
    // Named anew, since Clang 14 (./run fuzz) captures no structured binding.
    place = std::make_shared<Weight>(
        [minuend = place, tap = tap] { return (minuend ? minuend->get() : Real()) - tap->get(); });
  }
  return half;
}

}  // namespace

Values ToeplitzProduct::record(int outputs, const Taps& taps, const ValueAt& x, const ValueAt& initial) {
  leaf_weights_.clear();
  return split(spec_.karatsuba, outputs, taps, x, initial);
}

Values ToeplitzProduct::leaf_weights(int outputs, const Taps& taps) {
  record(outputs, taps, nothing, nothing);
  Values all;
  for (const auto& each : leaf_weights_) all.push_back(each->get());
  return all;
}

/// With even and odd rows apart, y_even = A x_even + B x_odd and y_odd = C x_even + A' x_odd, where A = A'
/// holds the even distances: so A (x_even + x_odd) serves both, and two products with B - A and C - A are
/// left.
Values ToeplitzProduct::split(int levels, int outputs, const Taps& taps, const ValueAt& x,
                              const ValueAt& initial) {
  if (levels == 0 || outputs < 2) return leaf(outputs, taps, x, initial);
  const int even = (outputs + 1) / 2, odd = outputs / 2;
  const ValueAt x_even = [&](int i) { return x(2 * i); };
  const ValueAt x_odd = [&](int i) { return x(2 * i + 1); };
  const ValueAt x_both = [&](int i) { return x(2 * i) + x(2 * i + 1); };

  const Values shared = split(levels - 1, even, halve(taps, 0, false), x_both, nothing);
  const ValueAt start = [&](int o) { return shared[o]; };
  const Values y_even = split(levels - 1, even, halve(taps, 1, true), x_odd, start);
  const Values y_odd = split(levels - 1, odd, halve(taps, -1, true), x_even, start);
  Values y;
  for (int o = 0; o < outputs; o++) y.push_back((o % 2 ? y_odd : y_even)[o / 2] + initial(o));
  return y;
}

/// for each tile of outputs: for each input that its taps meet: for each output that uses it
Values ToeplitzProduct::leaf(int outputs, Taps taps, const ValueAt& x, const ValueAt& initial) {
  for (auto& [distance, tap] : taps) {
    const int number = static_cast<int>(leaf_weights_.size());
    if (derived_) tap = std::make_shared<Weight>([this, number] { return derived_(number); });
    leaf_weights_.push_back(tap);
  }
  Values y;
  const int tiles = (outputs + spec_.tile - 1) / spec_.tile;
  for (int t = 0; t < tiles; t++) {
    const int begin = outputs * t / tiles, end = outputs * (t + 1) / tiles;
    Values sum;
    for (int o = begin; o < end; o++) sum.push_back(initial(o));
    add_tile(begin, end, taps, x, sum);
    y.insert(y.end(), sum.begin(), sum.end());
  }
  return y;
}

/// Adds what the inputs give outputs begin..end-1.
void ToeplitzProduct::add_tile(int begin, int end, const Taps& taps, const ValueAt& x, Values& sum) const {
  if (taps.empty()) return;
  const int first = begin * spec_.step + taps.begin()->first;
  const int last = (end - 1) * spec_.step + taps.rbegin()->first;
  for (int i = first; i <= last; i++) {
    Real input;
    bool read = false;
    for (int o = end - 1; o >= begin; o--) {
      const auto found = taps.find(i - o * spec_.step);
      if (found == taps.end()) continue;
      if (!read) input = x(i);
      read = true;
      if (input.zero()) break;
      sum[o - begin] = sum[o - begin] + input * found->second->get();
    }
  }
}

}  // namespace replk::jit
