#include "core/cpu.hpp"

#include <gtest/gtest.h>
#include <sched.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "core/features.hpp"
#include "core/log.hpp"

namespace replk::core {
namespace {

TEST(Isa, IsOrderedAndNamed) {
  EXPECT_LT(Isa::portable, Isa::avx2);
  EXPECT_LT(Isa::avx2, Isa::avx512);
  EXPECT_EQ(name(Isa::portable), "portable");
  EXPECT_EQ(name(Isa::avx2), "avx2");
  EXPECT_EQ(name(Isa::avx512), "avx512");
  EXPECT_EQ(vector_floats(Isa::avx2), 8);
  EXPECT_EQ(vector_floats(Isa::avx512), 16);
}

TEST(Cpu, IsTheSameObjectForEveryThread) {
  const Cpu* here = &cpu();
  std::thread([&] { EXPECT_EQ(&cpu(), here); }).join();
}

// The kernel reads the same registers: another reader to compare with.
TEST(Cpu, AgreesWithProcCpuinfo) {
  std::ifstream file("/proc/cpuinfo");
  std::string line, flags, vendor;
  int family = -1, model = -1, stepping = -1;
  while (std::getline(file, line) && !line.empty()) {
    const auto value = line.substr(line.find(':') == std::string::npos ? line.size() : line.find(':') + 1);
    if (line.starts_with("flags")) flags = value + " ";
    if (line.starts_with("vendor_id")) vendor = value.substr(1);
    if (line.starts_with("cpu family")) family = std::stoi(value);
    if (line.starts_with("model\t")) model = std::stoi(value);
    if (line.starts_with("stepping")) stepping = std::stoi(value);
  }
  if (flags.empty()) GTEST_SKIP() << "/proc/cpuinfo has no flags here";
  EXPECT_EQ(cpu().vendor, vendor);
  EXPECT_EQ(cpu().family, family);
  EXPECT_EQ(cpu().model, model);
  EXPECT_EQ(cpu().stepping, stepping);
  const auto all = [&](const std::vector<std::string>& names) {
    for (const auto& n : names)
      if (flags.find(" " + n + " ") == std::string::npos) return false;
    return true;
  };
  const bool avx2 = all({"avx2", "fma", "f16c"});
  const bool avx512 = avx2 && all({"avx512f", "avx512bw", "avx512dq", "avx512vl", "avx512cd"});
  EXPECT_EQ(cpu().hardware, avx512 ? Isa::avx512 : avx2 ? Isa::avx2 : Isa::portable);
  const Features found = hardware_features();
  EXPECT_EQ(found.has(Feature::avx2), avx2);
  EXPECT_EQ(found.has(Feature::avx512), avx512);
  EXPECT_EQ(found.has(Feature::avx_vnni), avx2 && all({"avx_vnni"}));
  EXPECT_EQ(found.has(Feature::avx512_vnni), avx512 && all({"avx512_vnni"}));
  EXPECT_EQ(found.has(Feature::avx512_bf16), avx512 && all({"avx512_bf16"}));
  EXPECT_EQ(found.has(Feature::amx_tile), avx512 && all({"amx_tile"}));
  EXPECT_EQ(found.has(Feature::amx_bf16), avx512 && all({"amx_tile", "amx_bf16"}));
  EXPECT_EQ(found.has(Feature::amx_int8), avx512 && all({"amx_tile", "amx_int8"}));
}

TEST(Features, AreWhatHardwareAndEnvironmentLeave) {
  const Features all = hardware_features() & allowed_features();
  EXPECT_TRUE(all.has(features()));
  EXPECT_EQ(isa_of(features()), cpu().isa);
  const Features tiles = Feature::amx_tile | Feature::amx_bf16 | Features(Feature::amx_int8);
  // The kernel refuses tiles as a whole or not at all, and nothing else.
  EXPECT_TRUE(features() == all || features() == Features(all.bits() & ~tiles.bits()));
}

TEST(Features, AreAskedForByManyThreadsAtOnce) {
  std::vector<Features> seen(8);
  std::vector<std::thread> threads;
  for (Features& each : seen) threads.emplace_back([&] { each = features(); });
  for (std::thread& thread : threads) thread.join();
  for (const Features each : seen) EXPECT_EQ(each, features());
}

TEST(Features, AreASet) {
  constexpr Features both = Feature::avx2 | Feature::avx_vnni;
  EXPECT_TRUE(both.has(Feature::avx_vnni));
  EXPECT_FALSE(both.has(Feature::avx2 | Feature::avx512));
  EXPECT_EQ(isa_of(both), Isa::avx2);
  EXPECT_EQ(isa_of(Feature::avx512), Isa::portable);  // a rung stands on those below it
  EXPECT_EQ(to_string(both), "avx2 avx_vnni");
  EXPECT_EQ(to_string(Features()), "portable");
}

TEST(Cpu, KnowsPlausibleCaches) {
  EXPECT_GE(cpu().l1d_bytes, 8u << 10);
  EXPECT_GE(cpu().l2_bytes, cpu().l1d_bytes);
}

TEST(Cpu, CountsNoMoreThanTheAffinityMask) {
  cpu_set_t set;
  ASSERT_EQ(sched_getaffinity(0, sizeof set, &set), 0);
  EXPECT_GE(cpu().cores, 1);
  EXPECT_LE(cpu().cores, CPU_COUNT(&set));
}

// REPLK_MAX_ISA is read once a process: a death test in its thread-safe style is a process of its own.
class MaxIsa : public testing::Test {
 protected:
  void SetUp() override { testing::GTEST_FLAG(death_test_style) = "threadsafe"; }
  void TearDown() override { unsetenv("REPLK_MAX_ISA"); }

  // Exits with 0 when the features in use are those of the hardware that `mask` leaves.
  static void exit_with_features(const char* cap, Features mask) {
    setenv("REPLK_MAX_ISA", cap, 1);
    std::exit(features() == (hardware_features() & mask) && isa_of(features()) == cpu().isa ? 0 : 1);
  }
  // Exits with 0 when the instruction set in use is the lower one of `expected` and the hardware's.
  static void exit_with_isa(const char* cap, Isa expected) {
    setenv("REPLK_MAX_ISA", cap, 1);
    set_log_callback([](LogLevel, const char* message, void*) { std::fprintf(stderr, "%s\n", message); },
                     nullptr);
    std::exit(cpu().isa == std::min(expected, cpu().hardware) ? 0 : 1);
  }
};

TEST_F(MaxIsa, LowersTheInstructionSetAndNeverRaisesIt) {
  for (Isa cap : {Isa::portable, Isa::avx2, Isa::avx512})
    EXPECT_EXIT(exit_with_isa(std::string(name(cap)).c_str(), cap), testing::ExitedWithCode(0), "^$");
  EXPECT_EXIT(exit_with_isa("", Isa::avx512), testing::ExitedWithCode(0), "^$");
}

TEST_F(MaxIsa, NamesFixedMasks) {
  const Features avx512 = Feature::avx2 | Feature::avx512;
  const std::pair<const char*, Features> masks[] = {
      {"portable", {}},
      {"avx2", Feature::avx2},
      {"avx_vnni", Feature::avx2 | Feature::avx_vnni},
      {"avx512", avx512},
      {"avx512_vnni", avx512 | Feature::avx512_vnni},
      {"avx512_bf16", avx512 | Feature::avx512_vnni | Feature::avx512_bf16},
  };
  for (const auto& [cap, mask] : masks)
    EXPECT_EXIT(exit_with_features(cap, mask), testing::ExitedWithCode(0), "^$") << cap;
}

TEST_F(MaxIsa, IsToldOfWhenItIsUnknown) {
  EXPECT_EXIT(exit_with_isa("mmx", Isa::avx512), testing::ExitedWithCode(0),
              "REPLK_MAX_ISA is 'mmx', not one of .*ignored");
}

}  // namespace
}  // namespace replk::core
