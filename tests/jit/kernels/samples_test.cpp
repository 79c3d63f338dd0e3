#include "jit/kernels/samples.hpp"

#include <gtest/gtest.h>

#include <set>
#include <string>
#include <thread>
#include <vector>

#include "jit/x64/fingerprint.hpp"

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

// Every byte of every sample counts, and so does which sample has it.
TEST(Fingerprint, ChangesWithAnyByteOfAnySample) {
  for (const Isa isa : {Isa::avx2, Isa::avx512}) {
    std::vector<std::vector<std::uint8_t>> codes;
    for (const Sample& sample : samples(features_beside(isa))) codes.push_back(sample.generate());
    const auto value = [&] {
      Fingerprint all;
      for (const auto& code : codes) all.add(code);
      return all.value();
    };
    const std::uint64_t before = value();
    for (std::vector<std::uint8_t>& code : codes)
      for (const std::size_t at : {std::size_t{0}, code.size() / 2, code.size() - 1}) {
        code[at] ^= 1;
        EXPECT_NE(value(), before);
        code[at] ^= 1;
      }
    codes.front().push_back(0x90);  // a nop moves from one to the next
    const std::uint64_t one = value();
    codes.front().pop_back();
    codes[1].insert(codes[1].begin(), 0x90);
    EXPECT_NE(value(), one);
  }
}

TEST(Samples, AreDistinctAndTheSameEachTime) {
  std::set<std::string> texts;
  std::size_t count = 0;
  for (const Isa isa : {Isa::avx2, Isa::avx512})
    for (const Sample& sample : samples(features_beside(isa))) {
      count++;
      texts.insert(sample.text);
      EXPECT_EQ(sample.generate(), sample.generate()) << sample.text;
    }
  EXPECT_EQ(texts.size(), count);
}

// An instruction with a vector operand takes 4 to 12 bytes.
TEST(Samples, CountsAreThoseOfTheirCode) {
  int counted = 0;
  for (const Isa isa : {Isa::avx2, Isa::avx512})
    for (const Sample& sample : samples(features_beside(isa))) {
      if (!sample.count) continue;
      counted++;
      const Counts counts = sample.count();
      EXPECT_GT(counts.multiplies + counts.adds, 0) << sample.text;
      EXPECT_LE(counts.multiplies + counts.adds, counts.instructions) << sample.text;
      if (sample.text.find("outputs=29") != std::string::npos) continue;  // calls count more than once
      EXPECT_GE(sample.generate().size(), 4u * counts.instructions) << sample.text;
    }
  EXPECT_GE(counted, 20);
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
