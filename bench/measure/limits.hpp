// What this machine can do at most: the measure of every other figure.
#pragma once
#include <cstddef>

namespace replk::bench {

/// Multiply-adds a second over all `threads` at once, in registers alone: the widest instructions that
/// core::cpu().isa has. Takes about `seconds` and gives the best of several bursts, so that an interrupt does
/// not count as a slow clock.
double peak_fma_per_second(int threads, double seconds = 0.01);
/// Additions a second, likewise.
double peak_add_per_second(int threads, double seconds = 0.01);
/// Bytes a second read from a buffer of `bytes` for each thread, 64-byte aligned: sizes below the L1, L2 and
/// beyond the L3 give their bandwidths.
double read_bytes_per_second(int threads, std::size_t bytes, double seconds = 0.02);

struct Limits {
  double fma_per_second = 0, add_per_second = 0;
  double l1_bytes_per_second = 0, l2_bytes_per_second = 0, memory_bytes_per_second = 0;
};
Limits measure_limits(int threads);

}  // namespace replk::bench
