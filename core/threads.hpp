// The one place that runs threads (OpenMP by default, or a pool the user brings).
#pragma once
#include <cstddef>
#include <cstdint>
#include <functional>
#include <type_traits>

namespace replk::core {

/// Threads of a call that asks for 0: OMP_NUM_THREADS, else the CPUs that this process may use
/// (cpu().cores); at most OMP_THREAD_LIMIT. Determined once.
int default_threads();
/// What a request means: 0 is default_threads(); inside a parallel region of this library or of OpenMP, and
/// in a child that was forked since the library was loaded, it is 1.
int effective_threads(int requested);

/// Runs body(index, thread) for every index in [0, count), on at most `threads` threads (see
/// effective_threads), and waits. Indices are dealt in contiguous equal shares, so an index goes to the same
/// thread from call to call. Where an operation of any body overflowed, this thread has noted it afterwards
/// (overflow.hpp). The first exception of any body is thrown here after all have ended. Allocates
/// nothing.
///
/// The members of OpenMP's team that a smaller call leaves idle stay for a while (they pass its barriers):
/// libgomp makes threads anew at some 50 us each.
///
/// Where the system refuses threads (limits of processes, of a control group, of memory), fewer run all
/// shares, a warning says so once, and after a second more are tried again. libgomp would end the process: so
/// before its team grows, as many threads are made and joined on trial (thread_trial.hpp). What remains is
/// the time between the trial and libgomp's own: where something else takes the last threads or the last
/// memory in between, the process ends nevertheless. So it does where the threads that a smaller team of the
/// caller's own has just made superfluous have not ended yet, and the limit has no room for them and their
/// successors.
using ParallelBody = std::function<void(std::int64_t index, int thread)>;
void parallel_for(std::int64_t count, int threads, const ParallelBody& body);

/// Bytes to leave between the scratch of two threads. A CPU's prefetchers follow strides far beyond what is
/// read and take those lines from the core that writes them. Measured on Zen 3, the second of two threads:
/// n1c1024h7w7k13 33 us without a gap, 21 from 64 KiB on; n1c256h28w28k29 148 us without, 144 with 64 KiB,
/// 130 from 256 KiB on, and up to 205 where the two cores share no cache.
constexpr std::size_t scratch_gap = std::size_t{256} << 10;

/// The same for a lambda, by reference: a std::function that holds a large capture itself would be allocated.
template <class Body>
requires(!std::is_same_v<std::remove_cvref_t<Body>, ParallelBody>) void parallel_for(std::int64_t count,
                                                                                     int threads,
                                                                                     Body&& body) {
  parallel_for(count, threads, ParallelBody(std::ref(body)));
}

/// A user's pool: calls body(i) for every i in [0, count) concurrently and returns when all are done.
/// Process-wide; an empty function restores OpenMP. Not to be changed while another thread runs work.
using PoolRun = std::function<void(int count, const std::function<void(int)>& body)>;
void set_thread_pool(PoolRun run);

/// While it lives, what this thread gives to parallel_for is run by this pool; null changes nothing. A pool
/// may run the shares one after another, in any order: none waits for another.
class PoolScope {
 public:
  explicit PoolScope(const PoolRun* pool);
  ~PoolScope();
  PoolScope(const PoolScope&) = delete;
  PoolScope& operator=(const PoolScope&) = delete;

 private:
  const PoolRun* before_;
};

/// While it lives, OpenMP teams that this thread starts have effective_threads(threads) members: for
/// libraries that run OpenMP themselves (oneDNN). They are made here, on trial first as parallel_for's; where
/// there are fewer than `threads`, a team that asks for its own number of them has one. Other threads are not
/// touched.
class TeamSize {
 public:
  explicit TeamSize(int threads);
  ~TeamSize();
  TeamSize(const TeamSize&) = delete;
  TeamSize& operator=(const TeamSize&) = delete;
  int size() const { return size_; }

 private:
  int before_, levels_before_, size_ = 1;
};

}  // namespace replk::core
