#include "tests/support/failing_allocations.hpp"

#include <dlfcn.h>
#include <execinfo.h>
#include <link.h>
#include <malloc.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <new>
#include <set>

#if !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)
#define REPLK_CAN_FAIL 1
#else
#define REPLK_CAN_FAIL 0
#endif

namespace replk::test::allocations {
namespace {

enum class Owner { ours, runtime, others };  // runtime: on somebody's behalf

struct Module {
  std::uintptr_t begin = 0, end = 0;
  Owner owner = Owner::others;
};
constexpr int most_modules = 64;
Module modules[most_modules];
int module_count = 0;

Owner owner_of(const void* address) {
  const auto at = reinterpret_cast<std::uintptr_t>(address);
  for (int i = 0; i < module_count; i++)
    if (modules[i].begin <= at && at < modules[i].end) return modules[i].owner;
  return Owner::others;
}

[[gnu::constructor]] void find_modules() {
  dl_iterate_phdr(
      [](dl_phdr_info* info, std::size_t, void*) {
        const char* const name = info->dlpi_name;
        const Owner owner = !*name                                                          ? Owner::ours
                            : std::strstr(name, "libstdc++") || std::strstr(name, "libfmt") ? Owner::runtime
                                                                                            : Owner::others;
        for (int i = 0; i < info->dlpi_phnum && module_count < most_modules; i++) {
          const ElfW(Phdr)& segment = info->dlpi_phdr[i];
          if (segment.p_type != PT_LOAD || !(segment.p_flags & PF_X)) continue;
          modules[module_count++] = {info->dlpi_addr + segment.p_vaddr,
                                     info->dlpi_addr + segment.p_vaddr + segment.p_memsz, owner};
        }
        return 0;
      },
      nullptr);
  void* frames[4];
  backtrace(frames, 4);  // loads what it needs now
}

struct State {
  bool active = false, on = false, recording = false, inside = false;
  std::int64_t fail_at = 0;
  Counted counted;
};
thread_local State state;
std::atomic<std::int64_t> alive{0};
constexpr std::size_t most_recorded = 1 << 22;
std::uint64_t* stacks = nullptr;
std::size_t stack_count = 0;

/// Whether a call is ours, and counted; sets `fails` where it is to fail.
bool is_ours(const void* caller, bool& fails) {
  fails = false;
  State& s = state;
  if (!s.active || s.inside) return false;
  Owner owner = owner_of(caller);
  constexpr int most = 48;
  void* frames[most];
  int count = 0;
  if (owner == Owner::runtime || (owner == Owner::ours && s.recording)) {
    s.inside = true;
    count = backtrace(frames, most);
    s.inside = false;
  }
  if (owner == Owner::runtime) {
    owner = Owner::others;
    bool reached = false;  // the frames of this file come first
    for (int i = 0; i < count; i++) {
      reached |= frames[i] == caller;
      if (!reached || owner_of(frames[i]) == Owner::runtime) continue;
      owner = owner_of(frames[i]);
      break;
    }
  }
  if (owner != Owner::ours) {
    s.counted.others++;
    return false;
  }
  const std::int64_t number = ++s.counted.ours;
  if (s.recording && stack_count < most_recorded) {
    std::uint64_t hash = 0xcbf29ce484222325u;
    bool reached = false;
    for (int i = 0; i < count; i++) {
      reached |= frames[i] == caller;
      if (reached) hash = (hash ^ reinterpret_cast<std::uintptr_t>(frames[i])) * 0x100000001b3u;
    }
    stacks[stack_count++] = hash;
  }
  fails = s.fail_at > 0 && (s.on ? number >= s.fail_at : number == s.fail_at);
  s.counted.failed |= fails;
  return true;
}

}  // namespace

const bool can_fail = REPLK_CAN_FAIL;

void start(std::int64_t fail_at, bool on) {
  state = {.active = true, .on = on, .recording = false, .inside = false, .fail_at = fail_at, .counted = {}};
}
void start_recording() {
  if (!stacks)
    stacks =
        reinterpret_cast<std::uint64_t*>(syscall(SYS_mmap, nullptr, most_recorded * sizeof(std::uint64_t),
                                                 PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
  stack_count = 0;
  start(0);
  state.recording = true;
}
Counted stop() {
  state.active = false;
  return state.counted;
}
std::vector<std::int64_t> worth_failing(std::size_t all) {
  std::set<std::uint64_t> seen;
  std::vector<std::int64_t> calls;
  for (std::size_t i = 0; i < stack_count; i++)
    if (stack_count <= all || seen.insert(stacks[i]).second)
      calls.push_back(static_cast<std::int64_t>(i) + 1);
  return calls;
}
std::int64_t live() {
  return alive;
}

}  // namespace replk::test::allocations

#if REPLK_CAN_FAIL
// In front of the C library's, for this executable and the libraries that it loads.
using namespace replk::test::allocations;

namespace {

// Blocks of ours are recognised, when they are freed, by their place in this table of addresses.
constexpr std::size_t slots = 1 << 20;
std::atomic<std::uintptr_t> ours[slots];
constexpr std::uintptr_t gone = 1;

std::size_t slot_of(std::uintptr_t address) {
  return (address >> 4) * 0x9e3779b97f4a7c15u >> 44;
}

void remember(const void* block) {
  const auto address = reinterpret_cast<std::uintptr_t>(block);
  for (std::size_t i = slot_of(address);; i++) {
    std::atomic<std::uintptr_t>& slot = ours[i % slots];
    std::uintptr_t old = slot;
    if (old > gone || !slot.compare_exchange_strong(old, address)) continue;
    alive++;
    return;
  }
}
bool forget(const void* block) {
  const auto address = reinterpret_cast<std::uintptr_t>(block);
  for (std::size_t i = slot_of(address);; i++) {
    std::uintptr_t old = ours[i % slots];
    if (old == 0) return false;
    if (old != address) continue;
    // Behind the last of a chain nothing is looked for.
    ours[i % slots] = ours[(i + 1) % slots] == 0 ? 0 : gone;
    alive--;
    return true;
  }
}

std::int64_t pages(std::size_t bytes) {
  return static_cast<std::int64_t>((bytes + 4095) / 4096);
}

template <class Allocate>
void* counted(const void* caller, Allocate allocate) {
  bool fails;
  const bool mine = is_ours(caller, fails);
  if (fails) {
    errno = ENOMEM;
    return nullptr;
  }
  void* const block = allocate();
  if (mine && block) remember(block);
  return block;
}

}  // namespace

#define REPLK_SEEN [[gnu::visibility("default")]]
extern "C" {
void* __libc_malloc(std::size_t);
void __libc_free(void*);
void* __libc_calloc(std::size_t, std::size_t);
void* __libc_realloc(void*, std::size_t);
void* __libc_memalign(std::size_t, std::size_t);

REPLK_SEEN void* malloc(std::size_t size) {
  return counted(__builtin_return_address(0), [&] { return __libc_malloc(size); });
}
REPLK_SEEN void* calloc(std::size_t count, std::size_t size) {
  return counted(__builtin_return_address(0), [&] { return __libc_calloc(count, size); });
}
REPLK_SEEN void* realloc(void* old, std::size_t size) {
  bool fails;
  const bool mine = is_ours(__builtin_return_address(0), fails);
  if (fails) return nullptr;
  if (old) forget(old);
  void* const block = __libc_realloc(old, size);
  if (mine && block) remember(block);
  return block;
}
REPLK_SEEN void* memalign(std::size_t align, std::size_t size) {
  return counted(__builtin_return_address(0), [&] { return __libc_memalign(align, size); });
}
REPLK_SEEN void* aligned_alloc(std::size_t align, std::size_t size) {
  return counted(__builtin_return_address(0), [&] { return __libc_memalign(align, size); });
}
REPLK_SEEN int posix_memalign(void** out, std::size_t align, std::size_t size) {
  void* const block = counted(__builtin_return_address(0), [&] { return __libc_memalign(align, size); });
  if (!block) return ENOMEM;
  *out = block;
  return 0;
}
REPLK_SEEN void free(void* block) {
  if (block) forget(block);
  __libc_free(block);
}
REPLK_SEEN void* mmap(void* address, std::size_t bytes, int protection, int flags, int file,
                      off_t offset) noexcept {
  bool fails;
  is_ours(__builtin_return_address(0), fails);
  if (fails) {
    errno = ENOMEM;
    return MAP_FAILED;
  }
  if (owner_of(__builtin_return_address(0)) == Owner::ours) alive += pages(bytes);
  return reinterpret_cast<void*>(syscall(SYS_mmap, address, bytes, protection, flags, file, offset));
}
REPLK_SEEN int munmap(void* address, std::size_t bytes) noexcept {
  // By pages: a mapping may be trimmed at both ends.
  if (owner_of(__builtin_return_address(0)) == Owner::ours) alive -= pages(bytes);
  return static_cast<int>(syscall(SYS_munmap, address, bytes));
}
REPLK_SEEN int mprotect(void* address, std::size_t bytes, int protection) noexcept {
  bool fails;
  is_ours(__builtin_return_address(0), fails);
  if (fails) {
    errno = ENOMEM;
    return -1;
  }
  return static_cast<int>(syscall(SYS_mprotect, address, bytes, protection));
}
}

namespace {
void* from_new(const void* caller, std::size_t size, std::size_t align) {
  void* const block = counted(caller, [&] { return __libc_memalign(align, size ? size : 1); });
  if (!block) throw std::bad_alloc();
  return block;
}
}  // namespace

void* operator new(std::size_t size) {
  return from_new(__builtin_return_address(0), size, 16);
}
void* operator new(std::size_t size, std::align_val_t align) {
  return from_new(__builtin_return_address(0), size, static_cast<std::size_t>(align));
}
void operator delete(void* block) noexcept {
  free(block);
}
void operator delete(void* block, std::size_t) noexcept {
  free(block);
}
void operator delete(void* block, std::align_val_t) noexcept {
  free(block);
}
void operator delete(void* block, std::size_t, std::align_val_t) noexcept {
  free(block);
}
#endif
