// Sums of a kernel's taps, a vector of channels each, on their way to where a channel's taps lie one behind
// the other.
#pragma once
#include <cstdint>
#include <span>

namespace replk::simd {

/// tile: [taps][lanes]; to: channel 0's first tap, those of channel c `stride` floats behind it. Writes
/// `count` channels (at most lanes, 8 or 16) and no byte beside them. Needs AVX2; 16 lanes need AVX-512.
void transpose_taps(const float* tile, int taps, int lanes, int count, float* to, std::int64_t stride);

/// Prefetches what transpose_taps() will write, to be written, where that is little; what is more fetches its
/// own on the way.
void expect_taps(int taps, int count, const float* to, std::int64_t stride);

/// Some tiles, `next` floats apart, to be added up in their order.
struct TapSums {
  const float* tile;
  int count;
  std::int64_t next;
};
/// Vectors at tile + row + column (floats), for each row and in it for each column, one behind the other;
/// zeros where either is negative. Needs AVX2, and so does what follows.
void gather_taps(const TapSums& sums, std::span<const std::int64_t> rows,
                 std::span<const std::int64_t> columns, int lanes, float* to);
/// to[i] += what[i]; count: a multiple of 8.
void add(const float* what, int count, float* to);

/// Adds `count` vectors of `lanes` floats, `stride` floats apart, to sums in double.
void add_vectors(const float* from, int count, std::int64_t stride, int lanes, double* sums);

}  // namespace replk::simd
