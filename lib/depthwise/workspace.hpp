// The workspace of a caller that brings none.
#pragma once
#include <cstddef>

#include "core/memory.hpp"

namespace replk::depthwise {

/// Memory that is kept and grows: thread_local, it is the calling thread's.
class KeptWorkspace {
 public:
  /// What the caller gave, or where that is null at least so many bytes, 64-byte aligned, until the next
  /// call.
  std::byte* given_or_kept(void* given, std::size_t bytes) {
    if (given) return static_cast<std::byte*>(given);
    if (kept_.size() < bytes) kept_ = core::Buffer<std::byte>(bytes);
    return kept_.data();
  }

 private:
  core::Buffer<std::byte> kept_;
};

}  // namespace replk::depthwise
