#include "core/threads.hpp"

#include <pthread.h>

#include <algorithm>
#include <atomic>
#include <cctype>
#include <chrono>
#include <cstdlib>
#include <exception>
#include <functional>
#include <mutex>
#include <new>
#include <thread>
#include <utility>
#include <vector>

#include "core/cpu.hpp"
#include "core/log.hpp"
#include "core/openmp.hpp"
#include "core/overflow.hpp"
#include "core/thread_trial.hpp"

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

/// The threads that OpenMP keeps for the teams of one thread, their leader, counted as they come and go:
/// OpenMP does not say how many there are, and it ends those that a team does not need, whichever thread
/// leads that team. Held by the leader and each member.
struct Crew {
  std::atomic<int> holders{1}, members{0};
  int last = 1;                                 // the size of the last team, the leader included
  std::chrono::steady_clock::time_point full;   // when all of it were last wanted
  std::chrono::steady_clock::time_point again;  // more threads are not tried before this
};

void release(void* crew) {
  if (static_cast<Crew*>(crew)->holders.fetch_sub(1) == 1) delete static_cast<Crew*>(crew);
}
void leave(void* crew) {
  static_cast<Crew*>(crew)->members.fetch_sub(1);
  release(crew);
}

/// A pointer for each thread, handed to `end` where a thread ends. (A thread_local with a destructor would
/// end the process where there is no memory to remember that destructor.)
class Slot {
 public:
  explicit Slot(void (*end)(void*)) : made_(pthread_key_create(&key_, end) == 0) {}
  Crew* get() const { return made_ ? static_cast<Crew*>(pthread_getspecific(key_)) : nullptr; }
  bool set(Crew* crew) const { return made_ && pthread_setspecific(key_, crew) == 0; }

 private:
  pthread_key_t key_{};
  bool made_;
};
const Slot led(release), joined(leave);

/// Null where there is no memory.
Crew* my_crew() {
  if (Crew* crew = led.get()) return crew;
  Crew* crew = new (std::nothrow) Crew;
  if (crew && !led.set(crew)) delete std::exchange(crew, nullptr);
  return crew;
}

[[maybe_unused]] void join(Crew* crew) {
  Crew* const before = joined.get();
  if (before == crew || !joined.set(crew)) return;
  crew->holders++;
  crew->members++;
  if (before) leave(before);
}

/// Makes the members of a team that grows, as many as there can be.
int grow(Crew& crew, int there, int wanted) {
  // Two leaders that tried at the same time would both take the last threads.
  static std::mutex* const growing = new std::mutex;
  std::lock_guard lock(*growing);
  const int size = there + threads_to_be_had(wanted - there);
  if (size == there) return size;
#if !defined(__SANITIZE_THREAD__)
  openmp_team(size, [&] {
    if (omp_get_thread_num() > 0) join(&crew);
  });
#endif
  crew.last = size;
  return size;
}

/// How long members of a team that smaller calls leave idle are kept. libgomp ends them with the first
/// smaller team, and makes them anew for the next larger one: some 50 us each (Emerald Rapids, 2026-11-28),
/// where a network has layers for many threads and for few.
constexpr auto kept_for = std::chrono::milliseconds(100);

/// The size, at most `wanted`, of a team that OpenMP can make for the calling thread without ending the
/// process; its members are there. With `keep` it is more than that where there have been more of late.
int team_of(int wanted, bool keep) {
  wanted = std::min({wanted, omp_get_thread_limit(), most_threads});
  Crew* const crew = wanted > 1 ? my_crew() : nullptr;
  if (!crew) return 1;
  // What a smaller team has left over is about to end.
  const int there = std::min(1 + crew->members.load(), crew->last);
  const auto now = std::chrono::steady_clock::now();
  // Where threads have been refused of late, the memory of their stacks is wanted elsewhere.
  if (keep && wanted < there && now >= crew->again && now - crew->full < kept_for) return there;
  crew->full = now;
  crew->last = std::min(crew->last, wanted);
  if (wanted <= there) return wanted;
  if (now < crew->again) return there;
  const int size = grow(*crew, there, wanted);
  if (size < wanted) {
    crew->again = now + std::chrono::seconds(1);
    warn_once("threads", fmt::format("{} of {} threads can be made (the limit is the system's, on processes, "
                                     "memory or a control group): fewer are used",
                                     size, wanted));
  }
  return size;
}

#if defined(__SANITIZE_THREAD__)
// ThreadSanitizer does not see libgomp's barriers and would report every result as a race; threads it does
// see.
void run_threads(int count, const std::function<void(int)>& body) {
  std::vector<std::thread> threads;
  int t = 1;
  try {
    threads.reserve(static_cast<std::size_t>(count));
    for (; t < count; t++) threads.emplace_back([&body, t] { body(t); });
  } catch (const std::exception&) {  // no more threads: the others' shares are done here
  }
  for (body(0); t < count; t++) body(t);
  for (auto& thread : threads) thread.join();
}
#else
void run_threads(int count, const std::function<void(int)>& body) {
  const int team = team_of(count, true);
  if (team == 1) {
    for (int t = 0; t < count; t++) body(t);
    return;
  }
  openmp_team(team, [&] {
    for (int t = omp_get_thread_num(); t < count; t += omp_get_num_threads()) body(t);
  });
}
#endif

/// The first number of OMP_NUM_THREADS ("4" or "4,2"); 0 where it says none.
int openmp_threads() {
  const char* const text = std::getenv("OMP_NUM_THREADS");
  if (!text) return 0;
  char* end = nullptr;
  const long number = std::strtol(text, &end, 10);
  while (std::isspace(static_cast<unsigned char>(*end))) end++;
  return end != text && (*end == '\0' || *end == ',') && number >= 1 && number <= most_threads
             ? static_cast<int>(number)
             : 0;
}

}  // namespace

int default_threads() {
  static const int threads = [] {
    const int asked = openmp_threads();
    return std::max(1, std::min(asked > 0 ? asked : cpu().cores, omp_get_thread_limit()));
  }();
  return threads;
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
  std::atomic<bool> overflow{false};
  auto share = [&](int thread) {
    const bool outer = std::exchange(inside, true);
    const OverflowWatch watch;
    try {
      for (std::int64_t i = count * thread / used, end = count * (thread + 1) / used; i < end; i++)
        body(i, thread);
    } catch (...) {
      std::lock_guard lock(mutex);
      if (!error) error = std::current_exception();
    }
    if (watch.seen()) overflow = true;
    inside = outer;
  };
  // By reference: a function object that holds the capture itself would be allocated.
  const PoolRun& given = pool_of_run ? *pool_of_run : pool();
  if (given)
    given(used, std::ref(share));
  else
    run_threads(used, std::ref(share));
  if (overflow) note_overflow(true);
  if (error) std::rethrow_exception(error);
}

PoolScope::PoolScope(const PoolRun* pool) : before_(pool_of_run) {
  if (pool) pool_of_run = pool;
}
PoolScope::~PoolScope() {
  pool_of_run = before_;
}

TeamSize::TeamSize(int threads)
    : before_(omp_get_max_threads()), levels_before_(omp_get_max_active_levels()) {
  const int asked = threads > 0 ? threads : default_threads();
  size_ = team_of(effective_threads(asked), false);
  omp_set_num_threads(size_);
  // What was prepared for more asks for its own number; with no level allowed it gets one.
  if (size_ < asked) omp_set_max_active_levels(0);
}
TeamSize::~TeamSize() {
  omp_set_num_threads(before_);
  omp_set_max_active_levels(levels_before_);
}

}  // namespace replk::core
