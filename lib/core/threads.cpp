#include "core/threads.hpp"

#include <omp.h>
#include <pthread.h>

#include <algorithm>
#include <atomic>
#include <exception>
#include <functional>
#include <mutex>
#include <thread>
#include <utility>
#include <vector>

#include "core/cpu.hpp"

namespace replk::core {
namespace {

PoolRun& pool() {
  static PoolRun* run = new PoolRun;
  return *run;
}

// A forked child has the one thread that forked; libgomp and a user's pool would wait for the others for
// ever.
std::atomic<bool> forked{false};
[[maybe_unused]] const int watching_forks = pthread_atfork(nullptr, nullptr, [] { forked = true; });

thread_local const PoolRun* pool_of_run = nullptr;  // PoolScope's

thread_local bool inside = false;  // this thread is already running a share of a parallel_for

#if defined(__SANITIZE_THREAD__)
// ThreadSanitizer does not see libgomp's barriers and would report every result as a race; threads it does
// see.
void run_threads(int count, const std::function<void(int)>& body) {
  std::vector<std::thread> threads;
  for (int t = 1; t < count; t++) threads.emplace_back([&body, t] { body(t); });
  body(0);
  for (auto& thread : threads) thread.join();
}
#else
void run_threads(int count, const std::function<void(int)>& body) {
#pragma omp parallel num_threads(count)
  for (int t = omp_get_thread_num(); t < count; t += omp_get_num_threads()) body(t);
}
#endif

}  // namespace

int default_threads() {
  return cpu().cores;
}

int effective_threads(int requested) {
  if (inside || forked.load(std::memory_order_relaxed) || omp_in_parallel()) return 1;
  return requested > 0 ? requested : default_threads();
}

void set_thread_pool(PoolRun run) {
  pool() = std::move(run);
}

void parallel_for(std::int64_t count, int threads, const std::function<void(std::int64_t, int)>& body) {
  if (count <= 0) return;
  const int used = static_cast<int>(std::min<std::int64_t>(effective_threads(threads), count));
  if (used <= 1) {
    for (std::int64_t i = 0; i < count; i++) body(i, 0);
    return;
  }
  std::exception_ptr error;
  std::mutex mutex;
  auto share = [&](int thread) {
    const bool outer = std::exchange(inside, true);
    try {
      for (std::int64_t i = count * thread / used, end = count * (thread + 1) / used; i < end; i++)
        body(i, thread);
    } catch (...) {
      std::lock_guard lock(mutex);
      if (!error) error = std::current_exception();
    }
    inside = outer;
  };
  // By reference: a function object that holds the capture itself would be allocated.
  const PoolRun& given = pool_of_run ? *pool_of_run : pool();
  if (given)
    given(used, std::ref(share));
  else
    run_threads(used, std::ref(share));
  if (error) std::rethrow_exception(error);
}

PoolScope::PoolScope(const PoolRun* pool) : before_(pool_of_run) {
  if (pool) pool_of_run = pool;
}
PoolScope::~PoolScope() {
  pool_of_run = before_;
}

TeamSize::TeamSize(int threads) : before_(omp_get_max_threads()) {
  omp_set_num_threads(effective_threads(threads));
  // What was prepared before the fork asks for its own number of threads; with no level allowed it gets one.
  if (forked.load(std::memory_order_relaxed)) omp_set_max_active_levels(0);
}
TeamSize::~TeamSize() {
  omp_set_num_threads(before_);
}

}  // namespace replk::core
