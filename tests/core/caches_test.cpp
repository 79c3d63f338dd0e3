#include "core/caches.hpp"

#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <map>
#include <string>
#include <utility>

#include "../tuner/scratch.hpp"
#include "core/cpu.hpp"

namespace replk::core {
namespace {

using tuner::test::Scratch;

constexpr const char* kernels_directory = "/sys/devices/system/cpu/cpu0/cache";

/// A CPU that answers these leaves and no others.
Cpuid answers(std::map<std::pair<unsigned, unsigned>, Leaf> leaves) {
  return [leaves = std::move(leaves)](unsigned id, unsigned sub) {
    const auto found = leaves.find({id, sub});
    return found == leaves.end() ? Leaf{} : found->second;
  };
}

// As an Emerald Rapids answers: 48 KiB of data, 32 KiB of instructions, 2 MiB, 300 MiB.
std::map<std::pair<unsigned, unsigned>, Leaf> emerald_rapids() {
  return {{{4, 0}, {0x04000121, 0x02c0003f, 0x0000003f, 0}},
          {{4, 1}, {0x04000122, 0x01c0003f, 0x0000003f, 0}},
          {{4, 2}, {0x04000143, 0x03c0003f, 0x000007ff, 0}},
          {{4, 3}, {0x04004163, 0x04c0003f, 0x0003bfff, 4}}};
}

// As a Zen 3 answers: nothing in leaf 4; 32 KiB of each, 512 KiB, 32 MiB.
std::map<std::pair<unsigned, unsigned>, Leaf> zen3() {
  return {{{0x8000001d, 0}, {0x00004121, 0x01c0003f, 0x0000003f, 0}},
          {{0x8000001d, 1}, {0x00004122, 0x01c0003f, 0x0000003f, 0}},
          {{0x8000001d, 2}, {0x00004143, 0x01c0003f, 0x000003ff, 2}},
          {{0x8000001d, 3}, {0x0001c163, 0x03c0003f, 0x00007fff, 1}}};
}

constexpr Caches of_emerald_rapids{48 << 10, 2 << 20, std::size_t{300} << 20};
constexpr Caches of_zen3{32 << 10, 512 << 10, 32 << 20};

/// A directory as the kernel has it, of indices each with level, type and size.
class KernelsTables {
 public:
  void add(const std::string& level, const std::string& type, const std::string& size) {
    const std::string base = scratch_.path("index" + std::to_string(count_++));
    std::filesystem::create_directory(base);
    std::ofstream(base + "/level") << level << '\n';
    std::ofstream(base + "/type") << type << '\n';
    std::ofstream(base + "/size") << size << '\n';
  }
  std::string path() const { return scratch_.path(); }

 private:
  Scratch scratch_;
  int count_ = 0;
};

TEST(Caches, AreReadFromTheLeavesOfIntelAndOfAmd) {
  EXPECT_EQ(caches_of_cpuid(answers(emerald_rapids())), of_emerald_rapids);
  EXPECT_EQ(caches_of_cpuid(answers(zen3())), of_zen3);
}

TEST(Caches, AreNotInventedWhereNobodySays) {
  EXPECT_EQ(caches_of_cpuid(answers({})), Caches{});
  EXPECT_EQ(caches_of_sys("/no/such/directory"), Caches{});
  EXPECT_EQ(read_caches(answers({}), "/no/such/directory"), Caches{});
  const unsigned ones = ~0u;  // what some hypervisors answer for everything
  EXPECT_EQ(caches_of_cpuid([&](unsigned, unsigned) { return Leaf{ones, ones, ones, ones}; }), Caches{});
  EXPECT_EQ(caches_of_cpuid([&](unsigned, unsigned) { return Leaf{0x21, ones, ones, ones}; }), Caches{});
}

TEST(Caches, AreReadFromTheKernelsTables) {
  KernelsTables tables;
  tables.add("1", "Data", "48K");
  tables.add("1", "Instruction", "32K");
  tables.add("2", "Unified", "2048K");
  tables.add("3", "Unified", "300M");
  tables.add("3x", "Unified", "");
  EXPECT_EQ(caches_of_sys(tables.path()), of_emerald_rapids);
  KernelsTables hostile;
  hostile.add("1", "Data", "99999999999999999999K");
  hostile.add("2", "Unified", "-1");
  hostile.add("two", "Unified", "64K");
  EXPECT_EQ(caches_of_sys(hostile.path()), Caches{});
}

TEST(Caches, CpuidGoesFirstAndTheKernelIsAskedWhereItIsSilent) {
  KernelsTables tables;
  tables.add("1", "Data", "16K");
  tables.add("2", "Unified", "128K");
  const Caches kernels{16 << 10, 128 << 10, 0};
  EXPECT_EQ(read_caches(answers(emerald_rapids()), tables.path()), of_emerald_rapids);
  EXPECT_EQ(read_caches(answers(zen3()), "/no/such/directory"), of_zen3);
  EXPECT_EQ(read_caches(answers({}), tables.path()), kernels);
  // Cores of two kinds: which of them runs this is chance, Linux's tables are those of CPU 0.
  auto hybrid = emerald_rapids();
  hybrid[{7, 0}] = {0, 0, 0, 1u << 15};
  EXPECT_EQ(read_caches(answers(hybrid), tables.path()), kernels);
  EXPECT_EQ(read_caches(answers(hybrid), "/no/such/directory"), of_emerald_rapids);
}

// Two readers of the same hardware.
TEST(Caches, OfThisMachineAreThoseTheKernelKnows) {
  const Caches own = caches_of_cpuid(leaf), kernels = caches_of_sys(kernels_directory);
  if (own.l1d == 0) GTEST_SKIP() << "this CPU's leaves 4 and 0x8000001D say nothing";
  if (kernels.l1d == 0) GTEST_SKIP() << kernels_directory << " is not there to compare with";
  if (leaf(7).d & (1u << 15)) GTEST_SKIP() << "this CPU has cores of two kinds";
  EXPECT_EQ(own.l1d, kernels.l1d);
  EXPECT_EQ(own.l2, kernels.l2);
  EXPECT_EQ(own.l3, kernels.l3);
  EXPECT_EQ(cpu().l1d_bytes, own.l1d);
  if (own.l2 > 0) {
    EXPECT_EQ(cpu().l2_bytes, own.l2);
  }
  EXPECT_EQ(cpu().l3_bytes, own.l3);
}

}  // namespace
}  // namespace replk::core
