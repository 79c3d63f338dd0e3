// What one input may cost: a second of processor time, where a target says no other, and 256 MiB of heap at
// once. libFuzzer's own limits count the wall clock, which a busy machine stops, and resident pages, of which
// the sanitizer's are the most.
#pragma once
#include <sanitizer/allocator_interface.h>

#include <atomic>
#include <cstddef>
#include <cstdio>
#include <cstdlib>
#include <ctime>

namespace replk::fuzz {

class Limits {
 public:
  explicit Limits(double most_seconds = 1) : most_seconds_(most_seconds), start_(processor_seconds()) {
    static const int hooks = __sanitizer_install_malloc_and_free_hooks(allocated, freed);
    if (!hooks) stop("the allocator cannot be watched", 0);
    live = most = 0;
  }
  ~Limits() {
    if (const double seconds = processor_seconds() - start_; seconds > most_seconds_)
      stop("seconds of processor time", seconds);
    if (most > 256 << 20) stop("bytes of heap at once", static_cast<double>(most));
  }
  Limits(const Limits&) = delete;
  Limits& operator=(const Limits&) = delete;

 private:
  static inline std::atomic<std::ptrdiff_t> live{0}, most{0};

  static void allocated(const volatile void*, std::size_t bytes) {
    const std::ptrdiff_t now = live += static_cast<std::ptrdiff_t>(bytes);
    if (now > most) most = now;
  }
  static void freed(const volatile void* memory) {
    if (memory)
      live -= static_cast<std::ptrdiff_t>(__sanitizer_get_allocated_size(const_cast<const void*>(memory)));
  }
  static double processor_seconds() {
    timespec time{};
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &time);
    return static_cast<double>(time.tv_sec) + 1e-9 * static_cast<double>(time.tv_nsec);
  }
  [[noreturn]] static void stop(const char* what, double value) {
    std::fprintf(stderr, "an input took %.3g %s\n", value, what);
    std::abort();
  }

  double most_seconds_, start_;
};

}  // namespace replk::fuzz
