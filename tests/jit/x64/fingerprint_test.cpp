#include "jit/x64/fingerprint.hpp"

#include <gtest/gtest.h>

#include <thread>
#include <vector>

namespace replk::jit {
namespace {

// That it is the same in every process is tested where it matters: tests/cli/tune_test.py finds in one
// process what another has measured.
TEST(Fingerprint, DiffersByInstructionSetAndIsNothingForPortable) {
  EXPECT_EQ(fingerprint(Isa::portable), 0u);
  EXPECT_NE(fingerprint(Isa::avx2), 0u);
  EXPECT_NE(fingerprint(Isa::avx512), 0u);
  EXPECT_NE(fingerprint(Isa::avx2), fingerprint(Isa::avx512));
}

TEST(Fingerprint, IsTheSameForAllThreads) {
  std::vector<std::uint64_t> seen(8);
  std::vector<std::thread> threads;
  for (std::uint64_t& value : seen) threads.emplace_back([&] { value = fingerprint(Isa::avx512); });
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(seen, std::vector<std::uint64_t>(8, fingerprint(Isa::avx512)));
}

}  // namespace
}  // namespace replk::jit
