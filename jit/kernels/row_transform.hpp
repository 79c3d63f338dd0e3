// The row passes of a spectral convolution: a real transform of each row into planes, and its inverse with
// the epilogue. A lane is a channel, so that a row's pixels are vectors and nothing is shuffled.
//
// Planes: plane 0 holds X[0] of every row, plane 1 X[n/2] where n is even, then come real and imaginary parts
// of X[1], X[2], .. A plane is a vector a row, `plane_stride` bytes from the next one. A plane may hold the
// negative of its value (signs()), whichever was cheaper; weights make up for it.
#pragma once
#include <cstdint>
#include <string>
#include <vector>

#include "core/features.hpp"
#include "core/types.hpp"
#include "jit/program/dft.hpp"
#include "jit/program/registers.hpp"

namespace replk::jit {

/// The transform and which part of it is used.
struct RowTransform {
  int n = 0;
  Factors factors;
  std::string text() const;

  int reals() const { return n % 2 == 0 ? 2 : 1; }  // planes of frequencies that are their own mirror
  int pairs() const { return (n - 1) / 2; }
  int planes() const { return n; }
};

/// Where pixels and planes lie, in bytes. A block is one vector of channels, of pixels in their type.
struct RowStrides {
  std::int64_t pixel = 0, row = 0;  // of the tensor
  std::int64_t plane = 0;           // of the planes; rows are a vector apart
  std::int64_t tensor_block = 0, plane_block = 0;
  /// Blocks whose lines of the next row are prefetched, a part of them with each block; 0: none.
  int ahead = 0;
  std::string text() const;
};

struct RowForwardSpec {
  Isa isa = Isa::avx2;
  RowTransform transform;
  int first = 0, count = 0, step = 1;  // pixel i of a row is input first + i * step of the transform
  RowStrides strides;
  DataType type = DataType::f32;  // of the pixels
  bool free_signs = true;         // planes may be stored negated (row_signs)
  std::vector<int> signs;         // or are, as it is said here; empty: none is
  std::string text() const;
  /// Between them every branch of the generator (samples.hpp).
  static std::vector<RowForwardSpec> samples(Features features);
};

struct RowInverseSpec {
  Isa isa = Isa::avx2;
  RowTransform transform;
  std::vector<int> signs;              // of the planes, as the forward pass stores them
  int first = 0, count = 0, step = 1;  // pixel q of a row is output first + q * step, counted around
  RowStrides strides;
  DataType type = DataType::f32;  // of the pixels, and of the residual
  bool native_bf16 = false;       // AVX512_BF16 rounds
  bool relu = false, residual = false;
  bool scaled = false;  // times 1/n, pairs of planes times 2/n
  std::string text() const;
  /// Between them every branch of the generator (samples.hpp).
  static std::vector<RowInverseSpec> samples(Features features);
};

/// Transforms rows x blocks of pixels. src: the first pixel; planes: row 0 of plane 0 of the first block.
using RowForward = void (*)(const void* src, void* planes, std::int64_t rows, std::int64_t blocks);

/// The inverse, not scaled unless asked (weights carry 1/n, and 2/n for pairs), plus bias, then relu, then
/// residual. bias: a vector a block. residual has dst's strides and is not read without the flag.
using RowInverse = void (*)(const void* planes, void* dst, const void* bias, const void* residual,
                            std::int64_t rows, std::int64_t blocks);

/// The signs that the forward pass leaves: planes() entries of +1 or -1.
std::vector<int> row_signs(const RowForwardSpec& spec);

std::vector<std::uint8_t> generate(const RowForwardSpec& spec);
std::vector<std::uint8_t> generate(const RowInverseSpec& spec);

/// Counted without generating code.
Counts count(const RowForwardSpec& spec);
Counts count(const RowInverseSpec& spec);

}  // namespace replk::jit
