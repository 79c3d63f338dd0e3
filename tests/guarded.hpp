// What must not be touched, made visible: memory between inaccessible pages, canaries around it, and
// registers full of NaNs. Sanitizers do not see generated code, these do.
#pragma once
#include <cstddef>
#include <cstdint>

namespace replk::test {

/// Which end of a block lies right at an inaccessible page; the other end is followed (preceded) by canaries
/// up to one.
enum class Side { begin, end };

/// Bytes between two inaccessible pages, all 0xff at first: a NaN in every type. `gap` bytes, a canary too,
/// lie between the block and the page on its side, so that the block can have any alignment.
class Guarded {
 public:
  Guarded(std::size_t bytes, Side side, std::size_t gap = 0);
  ~Guarded();
  Guarded(const Guarded&) = delete;
  Guarded& operator=(const Guarded&) = delete;

  template <class T = void>
  T* as() const {
    return reinterpret_cast<T*>(data_);
  }
  std::size_t bytes() const { return bytes_; }
  /// Whether every canary is as it was.
  bool intact() const;

 private:
  unsigned char *inside_, *data_;
  std::size_t room_, bytes_;
};

/// Puts every block that core::allocate() takes from the heap from now on between inaccessible pages of its
/// own, where the program was linked with guarded_heap.cpp: the packed weights and biases of a plan, say.
/// Blocks keep their 64-byte alignment, so that up to 63 bytes behind a block's end stay canaries (0xff, like
/// the block itself).
void guard_heap(Side side);
/// Blocks guarded so far.
std::int64_t guarded_blocks();

/// Fills every vector and mask register that this CPU has with ones (NaNs in every lane, masks that keep
/// nothing out), and the stack that the next call will use.
void poison();

}  // namespace replk::test
