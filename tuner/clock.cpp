#include "tuner/clock.hpp"

#include <dirent.h>
#include <fcntl.h>
#include <unistd.h>
#include <xmmintrin.h>

#include <algorithm>
#include <cstdio>

#include "core/clock.hpp"

namespace replk::tuner {
namespace {

/// The kernel's account of each thread (Documentation/scheduler/sched-stats.rst): time on a core, time
/// waiting for one, slices. The calling thread alone would not do: while it spins at a barrier it looks busy,
/// and the thread that it waits for has lost its core.
double lost() {
  DIR* tasks = ::opendir("/proc/self/task");
  if (!tasks) return 0;
  unsigned long long nanoseconds = 0;
  while (const dirent* task = ::readdir(tasks)) {
    if (task->d_name[0] == '.') continue;
    char path[64], text[128];
    std::snprintf(path, sizeof path, "/proc/self/task/%.16s/schedstat", task->d_name);
    const int fd = ::open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0) continue;  // a kernel without the account: a steady machine is assumed
    const ssize_t n = ::read(fd, text, sizeof text - 1);
    ::close(fd);
    unsigned long long ran = 0, waited = 0;
    text[n > 0 ? n : 0] = 0;
    if (std::sscanf(text, "%llu %llu", &ran, &waited) == 2) nanoseconds += waited;
  }
  ::closedir(tasks);
  return 1e-9 * static_cast<double>(nanoseconds);
}

double one_burst() {
  // Ten independent chains hide the latency of every core since Haswell. Inline assembly, because a compiler
  // may fold or spill a loop of intrinsics, and then something else is measured.
  __m128 a = _mm_set1_ps(1.0f), b = a, c = a, d = a, e = a, f = a, g = a, h = a, i = a, j = a;
  const __m128 one = _mm_set1_ps(1.0f);
  const double start = core::seconds();
  for (int n = 0; n < 10000; n++)
    __asm__ volatile(
        "mulps %10, %0\n mulps %10, %1\n mulps %10, %2\n mulps %10, %3\n mulps %10, %4\n"
        "mulps %10, %5\n mulps %10, %6\n mulps %10, %7\n mulps %10, %8\n mulps %10, %9\n"
        : "+x"(a), "+x"(b), "+x"(c), "+x"(d), "+x"(e), "+x"(f), "+x"(g), "+x"(h), "+x"(i), "+x"(j)
        : "x"(one));
  return core::seconds() - start;
}

}  // namespace

Clock system_clock() {
  return {core::seconds, [] { return std::min({one_burst(), one_burst(), one_burst()}); }, lost};
}

}  // namespace replk::tuner
