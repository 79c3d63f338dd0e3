// How much stack a call takes.
#pragma once
#include <gtest/gtest.h>
#include <pthread.h>
#include <sys/mman.h>

#include <algorithm>
#include <cstddef>
#include <cstring>
#include <functional>

namespace replk::test {

/// Bytes of stack that a call takes, on a thread whose stack was filled with a pattern.
inline std::size_t stack_of(const std::function<void()>& call) {
  constexpr unsigned char pattern = 0xa5;
  constexpr std::size_t stack = std::size_t{1} << 20;
  auto* const memory = static_cast<unsigned char*>(
      mmap(nullptr, stack, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_STACK, -1, 0));
  std::memset(memory, pattern, stack);
  struct Job {
    const std::function<void()>& call;
    unsigned char* top;
  } job{call, nullptr};
  pthread_attr_t attributes;
  pthread_attr_init(&attributes);
  pthread_attr_setstack(&attributes, memory, stack);
  pthread_t thread;
  const int made = pthread_create(
      &thread, &attributes,
      [](void* at) -> void* {
        auto& j = *static_cast<Job*>(at);
        j.top = static_cast<unsigned char*>(__builtin_frame_address(0));
        j.call();
        return nullptr;
      },
      &job);
  EXPECT_EQ(made, 0);
  pthread_join(thread, nullptr);
  const unsigned char* const deepest =
      std::find_if(memory, job.top, [](unsigned char byte) { return byte != pattern; });
  const std::size_t used = static_cast<std::size_t>(job.top - deepest);
  pthread_attr_destroy(&attributes);
  munmap(memory, stack);
  return used;
}

}  // namespace replk::test
