// The straight-line programs of the column pass, recorded: what its kernel does for one real plane, for one
// pair of planes, and for the parts of these that are calls of one routine.
#pragma once
#include "jit/kernels/toeplitz.hpp"
#include "jit/kernels/toeplitz_product.hpp"
#include "jit/program/lower.hpp"

namespace replk::jit {

class ToeplitzPrograms {
 public:
  /// What indices count in: rows of planes, of `initial` as well; weights as the caller has them; weights
  /// derived for the leaves of products.
  enum Stream { input_plane, second_plane, weights, output_plane, second_output, initial, derived };

  explicit ToeplitzPrograms(const ToeplitzSpec& spec) : spec_(spec) {}

  /// output_plane = W input_plane.
  Listing real() const;
  /// Both planes of a pair.
  Listing pair() const;

  /// output_plane = initial + W input_plane, with derived weights of a number of product_weights().
  Listing product() const;
  int product_weights() const;
  /// Derived weights, of the product of a real plane.
  Listing derive_real() const;
  /// Of Gauss's three products: what both results share, then the real and the imaginary one.
  Listing derive_pair() const;
  /// Gauss's input of the shared product: output_plane = input_plane - second_plane.
  Listing difference() const;

 private:
  void record_by_four(Program& program, int begin, int end) const;
  void record_by_three(Program& program, int begin, int end) const;
  Listing derive(Program& program, const std::vector<Taps>& products) const;
  ValueAt plane(Program& program, Stream stream, int begin = 0) const;
  void store(Program& program, Stream stream, int begin, const Values& y) const;

  const ToeplitzSpec& spec_;
};

}  // namespace replk::jit
