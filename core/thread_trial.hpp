// Whether threads can be made, found out by making them.
#pragma once
#include <cstddef>
#include <string_view>

namespace replk::core {

/// The most threads that are tried at once; no caller may ask for more.
constexpr int most_threads = 1024;

/// How many of `wanted` threads can be made now, beside those there are: so many are made with the stacks
/// that OpenMP gives its own, stand at once beside some memory for OpenMP's bookkeeping, and are joined. Some
/// 20 us a thread. Allocates nothing from the heap. What another thread or process takes in the meantime is
/// not there afterwards.
int threads_to_be_had(int wanted);

/// Bytes of a stack as OMP_STACKSIZE says it: a number of KiB, or with B, K, M or G behind it; 0 where it
/// does not say any. Source: OpenMP 5.2, 21.2.
std::size_t stack_bytes(std::string_view text);

}  // namespace replk::core
