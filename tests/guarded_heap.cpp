// aligned_alloc, which core::allocate() takes small blocks from, with inaccessible pages around each block.
// Blocks come from one reserved range, so that free() knows them by their address.
#include <sys/mman.h>

#include <atomic>
#include <cerrno>
#include <cstdint>
#include <cstdlib>
#include <cstring>

#include "tests/guarded.hpp"

namespace {

using replk::test::Side;

constexpr std::size_t page = 4096, range = std::size_t{1} << 40;
std::atomic<bool> guarding{false};
std::atomic<Side> side{Side::end};
std::atomic<std::size_t> used{0};
std::atomic<std::int64_t> blocks{0};

char* reserve() {
  void* const memory = mmap(nullptr, range, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  return memory == MAP_FAILED ? nullptr : static_cast<char*>(memory);
}
char* base() {
  static char* const memory = reserve();
  return memory;
}

/// The block's size is in a page of its own before the one that must not be touched.
struct Header {
  std::size_t inside;
};

void* guarded(std::size_t align, std::size_t size) {
  const std::size_t inside = (size + page - 1) / page * page;
  const std::size_t at = used.fetch_add(inside + 3 * page);
  if (base() == nullptr || align > page || at + inside + 3 * page > range) return nullptr;
  char* const header = base() + at;
  char* const begin = header + 2 * page;
  if (mprotect(header, page, PROT_READ | PROT_WRITE) != 0 ||
      mprotect(begin, inside, PROT_READ | PROT_WRITE) != 0)
    return nullptr;
  reinterpret_cast<Header*>(header)->inside = inside;
  std::memset(begin, 0xff, inside);
  blocks++;
  return side == Side::begin ? begin : begin + (inside - size) / align * align;
}

bool is_guarded(const void* memory) {
  const auto address = reinterpret_cast<std::uintptr_t>(memory);
  return used != 0 && address - reinterpret_cast<std::uintptr_t>(base()) < range;
}

void give_back(void* memory) {
  const std::size_t at = static_cast<std::size_t>(static_cast<char*>(memory) - base()) / page * page;
  // A block begins in the first of its pages, also where it ends at the last one, since what rounds it up to
  // pages is shorter than a page: two pages further down is the header.
  char* const begin = base() + at;
  char* const header = begin - 2 * page;
  const std::size_t inside = reinterpret_cast<Header*>(header)->inside;
  madvise(header, inside + 2 * page, MADV_DONTNEED);
  mprotect(header, inside + 2 * page, PROT_NONE);
}

}  // namespace

namespace replk::test {

void guard_heap(Side where) {
  side = where;
  guarding = true;
}
std::int64_t guarded_blocks() {
  return blocks;
}

}  // namespace replk::test

#if !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)
extern "C" {
void* __libc_memalign(std::size_t, std::size_t);
void __libc_free(void*);

void* aligned_alloc(std::size_t align, std::size_t size) {
  if (guarding && size > 0) return guarded(align, size);
  return __libc_memalign(align, size);
}
void free(void* memory) {
  if (!is_guarded(memory)) return __libc_free(memory);
  const int kept = errno;
  give_back(memory);
  errno = kept;
}
}
#endif
