#include "core/memory.hpp"

#include <sys/mman.h>

#include <algorithm>

namespace replk::core {
namespace {

#if defined(__has_feature)  // Clang's way to say it
#if __has_feature(address_sanitizer)
#define __SANITIZE_ADDRESS__ 1
#endif
#endif
#if defined(__SANITIZE_ADDRESS__)
constexpr bool sanitized = true;  // the sanitizer sees overruns of heap blocks only
#else
constexpr bool sanitized = false;
#endif

// Blocks from this size on come from Linux and go back to it when freed. glibc raises its own threshold to
// 32 MiB as blocks are freed, and then loading a network leaves half as much again in holes of the heap.
constexpr std::size_t mapped_from = std::size_t{1} << 20;
constexpr std::size_t page = 4096, huge_page = std::size_t{2} << 20;

bool is_mapped(std::size_t bytes) {
  return !sanitized && bytes >= mapped_from;
}

/// More than half a huge page is a whole one.
std::size_t mapped_size(std::size_t bytes) {
  return bytes > huge_page / 2 && bytes < huge_page ? huge_page : round_up(bytes, page);
}

/// Aligned to a huge page, so that every whole one of a large block can be one: weights are streamed once a
/// run, and the walks of small pages' tables show.
void* map(std::size_t bytes) {
  const std::size_t size = mapped_size(bytes), align = size >= huge_page ? huge_page : page;
  void* const mapping =
      ::mmap(nullptr, size + align - page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (mapping == MAP_FAILED) return nullptr;
  auto* const begin = static_cast<char*>(mapping);
  char* const aligned = reinterpret_cast<char*>(round_up(reinterpret_cast<std::uintptr_t>(begin), align));
  char* const end = begin + size + align - page;
  if (aligned != begin) ::munmap(begin, static_cast<std::size_t>(aligned - begin));
  if (aligned + size != end) ::munmap(aligned + size, static_cast<std::size_t>(end - (aligned + size)));
  if (align == huge_page) ::madvise(aligned, size, MADV_HUGEPAGE);
  return aligned;
}

}  // namespace

void* allocate(std::size_t bytes, bool zeroed) {
  void* const memory =
      is_mapped(bytes) ? map(bytes) : std::aligned_alloc(alignment, round_up(bytes, alignment));
  if (memory == nullptr) fail(Status::out_of_memory, "no memory for {} bytes", bytes);
  if (zeroed && !is_mapped(bytes)) std::memset(memory, 0, bytes);
  return memory;
}

void release(void* memory, std::size_t bytes) noexcept {
  if (memory == nullptr) return;
  if (is_mapped(bytes))
    ::munmap(memory, mapped_size(bytes));
  else
    std::free(memory);
}

void keep_pages_small(void* memory, std::size_t bytes) noexcept {
  if (is_mapped(bytes)) ::madvise(memory, mapped_size(bytes), MADV_NOHUGEPAGE);
}

}  // namespace replk::core
