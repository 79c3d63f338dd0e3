// Where the tensors of a timed run lie.
#pragma once
#include <cstddef>

#include "core/memory.hpp"

namespace replk::bench {

/// Zeroed memory for a tensor that is timed, of at least so many bytes. Larger ones begin a huge page: on
/// small pages, which of them share sets of the second-level cache is drawn anew each time, and times of both
/// sides move with it.
inline core::Buffer<std::byte> tensor_memory(std::size_t bytes) {
  constexpr std::size_t small = std::size_t{64} << 10, huge_page = std::size_t{2} << 20;
  return core::Buffer<std::byte>(bytes < small ? bytes : core::round_up(bytes, huge_page), true);
}

}  // namespace replk::bench
