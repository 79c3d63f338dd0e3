#include "tuner/clock.hpp"

#include <time.h>
#include <xmmintrin.h>

#include <algorithm>
#include <chrono>

namespace replk::tuner {
namespace {

double now() {
  return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

double processor() {
  timespec time;
  if (::clock_gettime(CLOCK_THREAD_CPUTIME_ID, &time) != 0) return now();
  return static_cast<double>(time.tv_sec) + 1e-9 * static_cast<double>(time.tv_nsec);
}

double one_burst() {
  // Ten independent chains hide the latency of every core since Haswell. Inline assembly, because a compiler
  // may fold or spill a loop of intrinsics, and then something else is measured.
  __m128 a = _mm_set1_ps(1.0f), b = a, c = a, d = a, e = a, f = a, g = a, h = a, i = a, j = a;
  const __m128 one = _mm_set1_ps(1.0f);
  const double start = now();
  for (int n = 0; n < 10000; n++)
    __asm__ volatile(
        "mulps %10, %0\n mulps %10, %1\n mulps %10, %2\n mulps %10, %3\n mulps %10, %4\n"
        "mulps %10, %5\n mulps %10, %6\n mulps %10, %7\n mulps %10, %8\n mulps %10, %9\n"
        : "+x"(a), "+x"(b), "+x"(c), "+x"(d), "+x"(e), "+x"(f), "+x"(g), "+x"(h), "+x"(i), "+x"(j)
        : "x"(one));
  return now() - start;
}

}  // namespace

Clock system_clock() {
  return {now, [] { return std::min({one_burst(), one_burst(), one_burst()}); }, processor};
}

}  // namespace replk::tuner
