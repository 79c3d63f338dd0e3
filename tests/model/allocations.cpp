#include "allocations.hpp"

#include <dlfcn.h>

#include <atomic>
#include <cstddef>
#include <cstring>
#include <new>

#if !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)
#define REPLK_COUNTS 1
#else
#define REPLK_COUNTS 0
#endif

namespace {

std::atomic<bool> counting{false};
std::atomic<int> allocations_{0};

[[maybe_unused]] void count(const void* caller) {
  if (!counting.load(std::memory_order_relaxed)) return;
  Dl_info info;
  const bool known = ::dladdr(caller, &info) != 0;
  const auto is_from = [&](const char* library) {
    return known && std::strstr(info.dli_fname, library) != nullptr;
  };
  if (!is_from("libdnnl") && !is_from("libgomp")) allocations_.fetch_add(1, std::memory_order_relaxed);
}

}  // namespace

namespace allocations {

const bool can_count = REPLK_COUNTS;

void start() {
  allocations_ = 0;
  counting = true;
}

int stop() {
  counting = false;
  return allocations_;
}

}  // namespace allocations

#if REPLK_COUNTS
extern "C" {
void* __libc_malloc(std::size_t);
void __libc_free(void*);
void* __libc_calloc(std::size_t, std::size_t);
void* __libc_realloc(void*, std::size_t);
void* __libc_memalign(std::size_t, std::size_t);
void* malloc(std::size_t size) {
  return count(__builtin_return_address(0)), __libc_malloc(size);
}
void* calloc(std::size_t n, std::size_t size) {
  return count(__builtin_return_address(0)), __libc_calloc(n, size);
}
void* realloc(void* old, std::size_t size) {
  return count(__builtin_return_address(0)), __libc_realloc(old, size);
}
void* memalign(std::size_t align, std::size_t size) {
  return count(__builtin_return_address(0)), __libc_memalign(align, size);
}
void* aligned_alloc(std::size_t align, std::size_t size) {
  return count(__builtin_return_address(0)), __libc_memalign(align, size);
}
int posix_memalign(void** out, std::size_t align, std::size_t size) {
  count(__builtin_return_address(0));
  *out = __libc_memalign(align, size);
  return *out == nullptr;
}
}
// So that the caller is seen, not libstdc++.
void* operator new(std::size_t size) {
  count(__builtin_return_address(0));
  if (void* memory = __libc_malloc(size)) return memory;
  throw std::bad_alloc();
}
void operator delete(void* memory) noexcept {
  __libc_free(memory);
}
void operator delete(void* memory, std::size_t) noexcept {
  __libc_free(memory);
}
#endif
