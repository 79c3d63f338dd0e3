// A Toeplitz matrix times a vector, recorded: y[o] = initial(o) + the sum over taps t of w[t] x(o * step +
// t). Karatsuba's splitting halves it some times over; the leaves go by register tiles over the outputs.
#pragma once
#include <functional>
#include <map>
#include <memory>
#include <utility>
#include <vector>

#include "jit/kernels/toeplitz.hpp"
#include "jit/program/program.hpp"

namespace replk::jit {

/// A weight, recorded where it is first used: what a product needs late is not kept in a register from the
/// start.
class Weight {
 public:
  explicit Weight(std::function<Real()> make) : make_(std::move(make)) {}
  Real get() {
    if (make_) value_ = std::exchange(make_, nullptr)();
    return value_;
  }

 private:
  std::function<Real()> make_;
  Real value_;
};

using Taps = std::map<int, std::shared_ptr<Weight>>;  // by distance: input minus output
using ValueAt = std::function<Real(int)>;
using Values = std::vector<Real>;

/// The initial values of a product on its own.
inline Real nothing(int) {
  return {};
}

class ToeplitzProduct {
 public:
  /// Of the spec it takes step, karatsuba and tile. Where `derived` is given, the leaves take their weights
  /// from it, by one running number over all distances whether used or not: as leaf_weights() gives them.
  explicit ToeplitzProduct(const ToeplitzSpec& spec, ValueAt derived = nullptr)
      : spec_(spec), derived_(std::move(derived)) {}

  /// So many outputs.
  Values record(int outputs, const Taps& taps, const ValueAt& x, const ValueAt& initial);
  /// The weights of all leaves in their order: the taps, or what Karatsuba's products need of them.
  Values leaf_weights(int outputs, const Taps& taps);

 private:
  Values split(int levels, int outputs, const Taps& taps, const ValueAt& x, const ValueAt& initial);
  Values leaf(int outputs, Taps taps, const ValueAt& x, const ValueAt& initial);
  void add_tile(int begin, int end, const Taps& taps, const ValueAt& x, Values& sum) const;

  const ToeplitzSpec& spec_;
  const ValueAt derived_;
  std::vector<std::shared_ptr<Weight>> leaf_weights_;
};

}  // namespace replk::jit
