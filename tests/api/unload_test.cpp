// The shared library loaded and unloaded a thousand times, with work in between.
#include <dlfcn.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <cstdio>
#include <fstream>
#include <string>
#include <vector>

#include "replk/replk.h"

namespace {

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
constexpr bool sanitized = true;
#else
constexpr bool sanitized = false;
#endif

std::size_t resident_bytes() {
  std::ifstream file("/proc/self/statm");
  std::size_t all = 0, resident = 0;
  file >> all >> resident;
  return resident * static_cast<std::size_t>(sysconf(_SC_PAGESIZE));
}

/// Loads, plans, runs, destroys and unloads; the middle output.
float round_trip() {
  void* library = dlopen(REPLK_LIBRARY, RTLD_NOW | RTLD_LOCAL);
  if (!library) {
    ADD_FAILURE() << dlerror();
    return 0;
  }
  const auto find = [&]<class Function>(Function*, const char* name) {
    return reinterpret_cast<Function*>(dlsym(library, name));
  };
#define REPLK_FIND(name) find(static_cast<decltype(::name)*>(nullptr), #name)
  const auto create = REPLK_FIND(replk_depthwise_create_from_shape);
  const auto run = REPLK_FIND(replk_depthwise_run);
  const auto destroy = REPLK_FIND(replk_depthwise_destroy);
#undef REPLK_FIND
  const std::vector<float> w(8 * 81, 1.0f), src(8 * 144, 1.0f);
  std::vector<float> dst(src.size());
  const float* weights[] = {w.data()};
  replk_depthwise* plan = nullptr;
  EXPECT_EQ(create("n1c8h12w12k9", weights, nullptr, nullptr, &plan), REPLK_OK);
  EXPECT_EQ(run(plan, src.data(), dst.data(), nullptr, nullptr, 0), REPLK_OK);
  destroy(plan);
  EXPECT_EQ(dlclose(library), 0);
  return dst[8 * (6 * 12 + 6)];
}

TEST(Unload, AThousandTimesWithFlatMemory) {
  for (int i = 0; i < 20; i++) round_trip();
  const std::size_t before = resident_bytes();
  for (int i = 0; i < 1000; i++) ASSERT_NEAR(round_trip(), 81, 1e-3);
  const std::size_t after = resident_bytes();
  if (sanitized) return;  // freed memory waits in the sanitizer's quarantine
  EXPECT_LE(after, before + (1 << 20));
  std::printf("resident after 20 rounds: %zu KiB, after 1020: %zu KiB\n", before >> 10, after >> 10);
}

}  // namespace
