// Whether floating-point operations of a thread have overflowed: the CPU notes it in MXCSR for nothing.
#pragma once
#include <xmmintrin.h>

namespace replk::core {

inline bool overflowed() {
  return (_mm_getcsr() & _MM_EXCEPT_OVERFLOW) != 0;
}
/// Sets or clears what overflowed() reads; all else in MXCSR, the caller's modes above all, stays.
inline void note_overflow(bool overflow) {
  if (overflow == overflowed()) return;  // writing takes longer than reading
  _mm_setcsr(_mm_getcsr() ^ _MM_EXCEPT_OVERFLOW);
}

/// A stretch of a thread's work that is asked on its own; what was noted before is noted again at its end.
class OverflowWatch {
 public:
  OverflowWatch() : before_(overflowed()) { note_overflow(false); }
  ~OverflowWatch() { note_overflow(before_); }
  OverflowWatch(const OverflowWatch&) = delete;
  OverflowWatch& operator=(const OverflowWatch&) = delete;
  bool seen() const { return overflowed(); }

 private:
  const bool before_;
};

}  // namespace replk::core
