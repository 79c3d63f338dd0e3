// The OpenMP runtime: GCC's libgomp, whichever compiler is used. oneDNN runs on it; the pragmas of Clang
// would bring LLVM's libomp into the process, a second pool of threads on the same CPUs.
#pragma once
#include <type_traits>

#if defined(__clang__)
extern "C" {
// Of libgomp's ABI, as code that GCC has compiled calls it; the pragma below becomes a call of the first.
void GOMP_parallel(void (*body)(void*), void* data, unsigned threads, unsigned flags);
int omp_get_max_active_levels();
int omp_get_max_threads();
int omp_get_num_threads();
int omp_get_thread_limit();
int omp_get_thread_num();
int omp_in_parallel();
void omp_set_max_active_levels(int levels);
void omp_set_num_threads(int threads);
}
#else
#include <omp.h>
#endif

namespace replk::core {

/// Calls body() on each thread of a team of this size.
template <class Body>
void openmp_team(int threads, Body&& body) {
#if defined(__clang__)
  using Object = std::remove_reference_t<Body>;
  GOMP_parallel([](void* data) { (*static_cast<Object*>(data))(); },
                const_cast<void*>(static_cast<const void*>(&body)), static_cast<unsigned>(threads), 0);
#else
#pragma omp parallel num_threads(threads)
  body();
#endif
}

}  // namespace replk::core
