// The multiply-add peak of several threads, the yardstick of percentages.
#pragma once

namespace replk::bench {

/// GFLOP/s of this many threads at once, at this moment's clock: they share it, and sometimes a core.
double fma_peak_gflops(int threads);

}  // namespace replk::bench
