// The column pass of the two-dimensional transform: each pair of planes is a complex signal along the other
// axis; its transform, the product with the kernel's spectrum and the inverse are one straight-line program.
#pragma once
#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "core/features.hpp"
#include "jit/program/dft.hpp"
#include "jit/program/registers.hpp"

namespace replk::jit {

struct ColumnFftSpec {
  Isa isa = Isa::avx2;
  int n = 0;
  Factors factors;  // at least two: the first transforms meet the product
  int first = 0,
      inputs = 0;  // row r of an input plane is input first + r of the transform, the others are zero
  int outputs = 0, step = 1;      // row o of an output plane is output o * step
  bool half_weights = false;      // in fp16, half vectors
  int chunk = 4;                  // pairs that take each stage together
  std::int64_t plane_stride = 0;  // bytes, in and out
  std::string text() const;
  /// Between them every branch of the generator (samples.hpp).
  static std::vector<ColumnFftSpec> samples(Features features);
};

/// Transforms `pairs` pairs of planes (real part, imaginary part). Weights: for each pair the spectrum,
/// scaled by 1/n, as n times (real vector, imaginary vector) in the order of fft_weight_order(). Planes that
/// are written may lie where planes that were read two planes before lay. scratch: scratch_bytes() of it,
/// 64-byte aligned, for what the stages of a chunk hand to each other; the stack holds spilled registers
/// alone.
using ColumnFft = void (*)(const void* in, void* out, const void* weights, std::int64_t pairs, void* scratch);

std::size_t scratch_bytes(const ColumnFftSpec& spec);

/// The frequencies in the order in which the program meets them.
std::vector<int> fft_weight_order(const ColumnFftSpec& spec);

std::vector<std::uint8_t> generate(const ColumnFftSpec& spec);
Counts count_pair(const ColumnFftSpec& spec);

}  // namespace replk::jit
