#include "measure/peak.hpp"

#include <numeric>
#include <vector>

#include "core/threads.hpp"
#include "measure/limits.hpp"

namespace replk::bench {

double fma_peak_gflops(int threads) {
  std::vector<double> each(threads);
  core::parallel_for(threads, threads, [&](std::int64_t i, int) { each[i] = fma_peak_gflops(); });
  return std::accumulate(each.begin(), each.end(), 0.0);
}

}  // namespace replk::bench
