// A piece of work in which allocations fail, one place of the code after another.
#pragma once
#include <functional>
#include <string>
#include <vector>

namespace replk::test {

/// What is tried: `start` begins counting, so that what a caller has beforehand does not. Throws
/// std::bad_alloc or core::Error; gives results.
using Work = std::function<std::vector<float>(const std::function<void()>& start)>;

/// Each place that allocates fails once: the same results, to the bit, or an error that says out of memory;
/// nothing leaks, and the work can be done afterwards. On a thread of its own each time, which has no
/// workspace yet, and with its code to be generated anew. Failures are GoogleTest's.
void fail_each_place(const std::string& name, const Work& work);

}  // namespace replk::test
