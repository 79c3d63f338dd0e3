// What this machine can do at most: the yardstick of every speed that is printed.
#pragma once

namespace replk::bench {

/// Of one core, with the instruction set in use (core::cpu().isa).
struct Limits {
  double fma_gflops = 0;  // multiply-adds on vectors; one counts two
  double add_gops = 0;    // additions of vector lanes
  double mixed_gops = 0;  // both kinds at once, in equal parts: some CPUs have pipes for each
  double load_gbs = 0;    // vector loads that hit the L1 cache
  double l2_gbs = 0;      // a stream that fits half the L2
  double memory_gbs = 0;  // a stream four times the last cache, at least 256 MB
};

/// The multiply-add peak in GFLOP/s at this moment's clock: the best of three bursts, together under a
/// millisecond.
double fma_peak_gflops();

/// All limits; takes about half a second and 256 MB or more of memory.
Limits measure_limits();

}  // namespace replk::bench
