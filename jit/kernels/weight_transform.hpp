// What packs a kernel's weights for a spectral convolution: its taps transformed, scaled and put where the
// column pass reads them. A lane is a channel, as everywhere.
#pragma once
#include <cstdint>
#include <string>
#include <vector>

#include "jit/kernels/row_transform.hpp"

namespace replk::jit {

/// Rows of taps along the transformed axis to the planes of a row transform (row_transform.hpp), conjugated,
/// since the convolution is a correlation; times 1/n, planes of pairs times 2/n.
struct RowWeightsSpec {
  Isa isa = Isa::avx2;
  RowTransform transform;
  int taps = 0, shift = 0;                        // tap t is input t - shift of the transform, counted around
  std::vector<int> signs;                         // of the planes, as the forward pass stores them
  std::int64_t real_stride = 0, pair_stride = 0;  // bytes from one real plane, or pair of planes, to the next
  std::string text() const;
};

/// Pairs of such planes to the spectrum of the other axis: a complex transform, conjugated, times 1/n.
struct ColumnWeightsSpec {
  Isa isa = Isa::avx2;
  int n = 0;
  Factors factors;
  std::vector<int> places;  // of each tap: the input of the transform that it is
  std::vector<int> order;   // of the frequencies in the spectrum
  std::string text() const;
};

/// Of a row: `taps` vectors from `taps` on, one after the other; each of the `rows` rows follows the one
/// before. Row r's value of a real plane goes to vector r of it, that of a pair to vectors 2r and 2r + 1.
///
/// Of columns: one row, the taps of a pair, (real vector, imaginary vector) each; the spectrum likewise, from
/// `pairs` on. `reals` is not used, and the two must not overlap.
using WeightTransform = void (*)(const void* taps, void* reals, void* pairs, std::int64_t rows);

std::vector<std::uint8_t> generate(const RowWeightsSpec& spec);
std::vector<std::uint8_t> generate(const ColumnWeightsSpec& spec);

}  // namespace replk::jit
