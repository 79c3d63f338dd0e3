// No page that this library maps is ever writable and executable at once: seen in the process's own map while
// the library is at work, and in every call that maps or protects.
#include <dlfcn.h>
#include <gtest/gtest.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <atomic>
#include <cstdint>
#include <cstring>
#include <fstream>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include "jit/x64/code.hpp"
#include "replk/replk.h"

#if !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)
#define REPLK_WATCHES_CALLS 1
#else
#define REPLK_WATCHES_CALLS 0  // sanitizers have functions of their own in front of the C library's
#endif

namespace {

constexpr bool watches_calls = REPLK_WATCHES_CALLS;
std::mutex mutex;
std::atomic<bool> recording{false};
std::vector<std::string> ours, onednns;  // libraries that asked for PROT_WRITE and PROT_EXEC, a line a call
std::atomic<int> sealed{0};              // pages made executable by mprotect, not writable

void record(const char* what, const void* caller, int protection) {
  if (!recording || !(protection & PROT_EXEC)) return;
  if (!(protection & PROT_WRITE)) {
    sealed++;
    return;
  }
  Dl_info info{};
  dladdr(caller, &info);
  const std::string from = info.dli_fname ? info.dli_fname : "?";
  std::lock_guard lock(mutex);
  (from.find("libdnnl") != std::string::npos ? onednns : ours).push_back(std::string(what) + " from " + from);
}

/// Lines of the process's map that are writable and executable.
std::vector<std::string> writable_code() {
  std::vector<std::string> found;
  std::ifstream maps("/proc/self/maps");
  for (std::string line; std::getline(maps, line);) {
    const std::size_t space = line.find(' ');
    const std::string protection = line.substr(space + 1, 4);
    if (protection[1] == 'w' && protection[2] == 'x') found.push_back(line);
  }
  return found;
}

int executable_mappings() {
  int count = 0;
  std::ifstream maps("/proc/self/maps");
  for (std::string line; std::getline(maps, line);) count += line[line.find(' ') + 3] == 'x';
  return count;
}

TEST(Protection, DepthwiseIsNeverWritableAndExecutable) {
  if (!replk::jit::code_allowed()) GTEST_SKIP() << "this system forbids executable memory";
  recording = true;
  const std::vector<float> w(16 * 31 * 31, 0.01f), src(16 * 24 * 24, 1.0f);
  const float* weights[] = {w.data()};
  EXPECT_EQ(writable_code(), std::vector<std::string>{}) << "before";
  // Another thread looks all the time, so that what lasts for a moment only is seen too.
  std::atomic<bool> stop{false};
  std::atomic<int> looks{0};
  std::thread watcher([&] {
    for (; !stop; looks++) {
      const std::vector<std::string> found = writable_code();
      if (found.empty()) continue;
      ADD_FAILURE() << "while at work: " << found[0];
      return;
    }
  });
  const int mappings = executable_mappings(), sealed_before = sealed;
  for (const char* algorithm : {"direct", "row-spectral", "spectral", "portable"}) {
    replk_depthwise_options options = replk_depthwise_options_default();
    options.algorithm = algorithm;
    replk_depthwise* plan = nullptr;
    ASSERT_EQ(replk_depthwise_create_from_shape("n1c16h24w24k31", weights, nullptr, &options, &plan),
              REPLK_OK)
        << replk_last_error();
    EXPECT_EQ(writable_code(), std::vector<std::string>{}) << "after create, " << algorithm;
    EXPECT_TRUE(std::string(algorithm) == "portable" || executable_mappings() > mappings) << algorithm;
    std::vector<float> dst(src.size());
    for (int run = 0; run < 5; run++)
      ASSERT_EQ(replk_depthwise_run(plan, src.data(), dst.data(), nullptr, nullptr, 0), REPLK_OK);
    EXPECT_EQ(writable_code(), std::vector<std::string>{}) << "after run, " << algorithm;
    replk_depthwise_destroy(plan);
    replk::jit::set_code_cache_capacity(0);
    replk::jit::set_code_cache_capacity(64 << 20);
    EXPECT_EQ(writable_code(), std::vector<std::string>{}) << "after destroy, " << algorithm;
  }
  for (int before = looks; looks < before + 2;) std::this_thread::yield();
  stop = true;
  watcher.join();
  recording = false;
  EXPECT_EQ(executable_mappings(), mappings) << "all code is unmapped again";
  EXPECT_EQ(ours, std::vector<std::string>{});
  EXPECT_EQ(onednns, std::vector<std::string>{}) << "depthwise convolutions do without oneDNN";
  EXPECT_TRUE(!watches_calls || sealed > sealed_before) << "the calls are seen";
}

TEST(Protection, OfANetworkOneDnnAloneMapsSuchPages) {
  if (!replk::jit::code_allowed()) GTEST_SKIP() << "this system forbids executable memory";
  recording = true;
  replk_model* model = nullptr;
  ASSERT_EQ(replk_model_load("replknet-nano", nullptr, nullptr, &model), REPLK_OK) << replk_last_error();
  const std::vector<float> pixels(64 * 64 * 3, 0.5f);
  std::vector<float> logits(1000);
  ASSERT_EQ(replk_model_run(model, pixels.data(), 1, 64, 64, logits.data(), nullptr, nullptr), REPLK_OK);
  const std::size_t pages = writable_code().size();
  replk_model_destroy(model);
  recording = false;
  EXPECT_EQ(ours, std::vector<std::string>{});
  std::printf("oneDNN: %zu calls for writable and executable pages, %zu such mappings at once\n",
              onednns.size(), pages);
}

}  // namespace

#if REPLK_WATCHES_CALLS
// In front of the C library's: what this program and its libraries map passes here.
extern "C" {
[[gnu::visibility("default")]] void* mmap(void* address, std::size_t bytes, int protection, int flags,
                                          int file, off_t offset) noexcept {
  record("mmap", __builtin_return_address(0), protection);
  return reinterpret_cast<void*>(syscall(SYS_mmap, address, bytes, protection, flags, file, offset));
}
[[gnu::visibility("default")]] int mprotect(void* address, std::size_t bytes, int protection) noexcept {
  record("mprotect", __builtin_return_address(0), protection);
  return static_cast<int>(syscall(SYS_mprotect, address, bytes, protection));
}
}
#endif
