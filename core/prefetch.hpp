// Memory that will be read soon, for loops that leave the memory idle to prefetch.
#pragma once
#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <span>

namespace replk::core {

/// A view of it, brought near from front to back and never read here.
class Prefetch {
 public:
  Prefetch() = default;
  explicit Prefetch(std::span<const std::byte> bytes) : bytes_(bytes) {}

  bool empty() const { return bytes_.empty(); }
  std::span<const std::byte> bytes() const { return bytes_; }

  /// One of so many nearly equal parts.
  Prefetch part(std::int64_t index, std::int64_t parts) const {
    const std::int64_t bytes = std::ssize(bytes_), begin = bytes * index / parts;
    return Prefetch(bytes_.subspan(static_cast<std::size_t>(begin),
                                   static_cast<std::size_t>(bytes * (index + 1) / parts - begin)));
  }

  /// Of so many steps that are to come, of `each` bytes, the first ones take nothing that the last can take:
  /// what lies in the cache by then is what was brought there last.
  void delay(std::int64_t steps, std::int64_t each) {
    idle_steps_ = std::max<std::int64_t>(0, steps - (std::ssize(bytes_) + each - 1) / each);
  }

  /// Where a loop begins, and by how many bytes each of its steps goes on.
  struct Walk {
    const char* begin;
    std::int64_t step;
  };
  /// Takes what `steps` steps of `each` bytes go over off the front; where less is left, all of it in shorter
  /// steps, and where that is less than `each`, or all of the steps are idle, a walk that stands still at
  /// `idle`.
  Walk take(std::int64_t steps, std::int64_t each, const void* idle) {
    const std::int64_t left = std::ssize(bytes_);
    const bool early = steps <= idle_steps_;
    idle_steps_ = early ? idle_steps_ - steps : 0;
    if (steps == 0 || left < each || early) return {static_cast<const char*>(idle), 0};
    const auto* const begin = reinterpret_cast<const char*>(bytes_.data());
    if (left < steps * each) {
      bytes_ = {};
      return {begin, (left - each) / (steps - 1)};
    }
    bytes_ = bytes_.subspan(static_cast<std::size_t>(steps * each));
    return {begin, each};
  }

 private:
  std::span<const std::byte> bytes_;
  std::int64_t idle_steps_ = 0;
};

/// All of it at once, into the L2. (Not __builtin_prefetch: GCC drops calls of a function that does nothing
/// else.)
inline void prefetch_near(std::span<const std::byte> bytes) {
  constexpr std::size_t line = 64;
  for (std::size_t i = 0; i < bytes.size(); i += line) asm volatile("prefetcht1 %0" ::"m"(bytes[i]));
}

}  // namespace replk::core
