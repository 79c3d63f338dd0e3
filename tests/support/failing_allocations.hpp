// Makes chosen allocations of this library fail: operator new, malloc and its kin, mmap and mprotect, called
// by the code of the test's own executable, or by libstdc++ and libfmt on its behalf. What oneDNN, libgomp
// and the C library ask for themselves is counted apart and never fails.
#pragma once
#include <cstddef>
#include <cstdint>
#include <vector>

namespace replk::test::allocations {

/// False under a sanitizer, which owns malloc.
extern const bool can_fail;

/// From here to stop() calls are counted, on this thread alone; of ours, call number `fail_at` fails (from 1;
/// 0: none), and with `on` all behind it.
void start(std::int64_t fail_at, bool on = false);
struct Counted {
  std::int64_t ours = 0, others = 0;
  bool failed = false;  // whether the call that was to fail came
};
Counted stop();

/// Like start(0), and remembers from which stack of callers each call of ours comes.
void start_recording();
/// Numbers of the recorded calls: all where they are at most `all`, otherwise the first of each stack of
/// callers.
std::vector<std::int64_t> worth_failing(std::size_t all);

/// Blocks that counted calls of ours have made, and pages that ours have mapped, which nobody has freed.
std::int64_t live();

}  // namespace replk::test::allocations
