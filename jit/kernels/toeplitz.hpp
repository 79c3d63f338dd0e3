// The column pass of a spectral convolution: along the other axis every frequency is a convolution of its
// own, a Toeplitz matrix times each plane. Register tiles over the outputs; taps outside the map cost
// nothing, being never recorded.
#pragma once
#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "core/features.hpp"
#include "jit/program/registers.hpp"

namespace replk::jit {

struct ToeplitzSpec {
  Isa isa = Isa::avx2;
  /// Output o sums taps t over inputs o * step + t. Inputs exist from first to first + inputs - 1; the others
  /// are zero. Row r of an input plane is input first + r.
  int outputs = 0, inputs = 0, first = 0, step = 1;
  std::vector<int> taps;  // ascending, not negative
  /// Levels of Karatsuba's splitting into even and odd rows, three half-size products for four; only with
  /// step 1.
  int karatsuba = 0;
  int tile = 8;       // outputs that share a loaded input
  bool gauss = true;  // a complex product as three real ones (else four)
  /// Weights lie in planes as inputs do, a row a tap, and change with each call: those of a weight gradient.
  bool weight_planes = false;
  bool half_weights = false;  // in fp16, half vectors
  bool backwards = false;     // the last tap's weights lie first
  bool accumulate = false;    // adds to what the output planes hold
  /// Bytes between planes: in, out, and weights where these are planes.
  std::int64_t plane_stride = 0;
  std::string text() const;
  /// Between them every branch of the generator (samples.hpp).
  static std::vector<ToeplitzSpec> samples(Features features);
};

/// Multiplies `reals` real planes, then `pairs` pairs of planes (real part, imaginary part), in this order in
/// memory. Weights, a vector each: for a real plane its taps; for a pair real and imaginary part of each tap
/// in turn (where they are not planes). What Karatsuba's and Gauss's products need of them is derived on the
/// way: additions in the L1 cost less than weights from memory. Planes that are written may lie where planes
/// that were read two planes before lay. scratch: scratch_bytes() of it, 64-byte aligned; the stack holds
/// spilled registers alone.
using Toeplitz = void (*)(const void* in, void* out, const void* weights, std::int64_t reals,
                          std::int64_t pairs, void* scratch);

std::size_t scratch_bytes(const ToeplitzSpec& spec);

std::vector<std::uint8_t> generate(const ToeplitzSpec& spec);

/// Of one pair of planes, counted without generating code.
Counts count_pair(const ToeplitzSpec& spec);
/// Of one real plane.
Counts count_real(const ToeplitzSpec& spec);

}  // namespace replk::jit
