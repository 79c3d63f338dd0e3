// 64-byte aligned memory.
#pragma once
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <utility>

#include "core/error.hpp"

namespace replk::core {

constexpr std::size_t alignment = 64;

constexpr std::size_t round_up(std::size_t value, std::size_t multiple) {
  return (value + multiple - 1) / multiple * multiple;
}

/// bytes >= 1, aligned to `alignment`. Large blocks are pages of their own, huge where the system gives them.
/// Throws out_of_memory.
void* allocate(std::size_t bytes, bool zeroed);
/// memory: allocate(bytes, ...)'s, or null.
void release(void* memory, std::size_t bytes) noexcept;
/// For memory that is seldom read, before it is filled: no page of it is huge, so that it takes no more than
/// it holds.
void keep_pages_small(void* memory, std::size_t bytes) noexcept;

/// A fixed-size array of trivially copyable elements, aligned to a cache line, uninitialised unless asked.
/// Move-only.
template <class T>
class Buffer {
 public:
  Buffer() = default;
  explicit Buffer(std::size_t count, bool zeroed = false) : count_(count) {
    if (count == 0) return;
    if (count > (SIZE_MAX / 2) / sizeof(T))
      fail(Status::out_of_memory, "a buffer of {} elements is too large", count);
    data_ = static_cast<T*>(allocate(count * sizeof(T), zeroed));
  }
  ~Buffer() { release(data_, count_ * sizeof(T)); }
  Buffer(Buffer&& other) noexcept
      : data_(std::exchange(other.data_, nullptr)), count_(std::exchange(other.count_, 0)) {}
  Buffer& operator=(Buffer&& other) noexcept {
    std::swap(data_, other.data_);
    std::swap(count_, other.count_);
    return *this;
  }

  T* data() { return data_; }
  const T* data() const { return data_; }
  std::size_t size() const { return count_; }
  T& operator[](std::size_t i) { return data_[i]; }
  const T& operator[](std::size_t i) const { return data_[i]; }
  T* begin() { return data_; }
  T* end() { return data_ + count_; }
  const T* begin() const { return data_; }
  const T* end() const { return data_ + count_; }

 private:
  T* data_ = nullptr;
  std::size_t count_ = 0;
};

}  // namespace replk::core
