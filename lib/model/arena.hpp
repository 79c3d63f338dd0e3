// Where activations lie: buffers whose lifetimes do not meet share memory.
#pragma once
#include <cstddef>
#include <span>
#include <vector>

namespace replk::model {

/// A buffer is in use from step `first` to step `last`, both included.
struct Lifetime {
  std::size_t bytes = 0;
  int first = 0, last = 0;
};

struct ArenaPlan {
  std::vector<std::size_t> offsets;  // of each buffer, multiples of core::alignment
  std::size_t bytes = 0;
};

/// Greedy by size: the largest first, each at the lowest offset free for its whole life (Pisarchyk and Lee,
/// arXiv 2001.03288, section 5).
ArenaPlan plan_arena(std::span<const Lifetime> buffers);

}  // namespace replk::model
