#include "core/cgroup.hpp"

#include <gtest/gtest.h>

#include <cstdint>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <optional>
#include <random>
#include <stdexcept>
#include <string>

namespace replk::core {
namespace {

/// A root with what /proc and /sys/fs/cgroup hold on some system.
class Quota : public testing::Test {
 protected:
  void SetUp() override {
    std::string name = (std::filesystem::temp_directory_path() / "replk-cgroup-XXXXXX").string();
    ASSERT_NE(mkdtemp(name.data()), nullptr);
    root_ = name;
  }
  void TearDown() override { std::filesystem::remove_all(root_); }

  void write(const std::string& path, const std::string& text) {
    std::filesystem::create_directories((root_ / path).parent_path());
    std::ofstream(root_ / path, std::ios::binary) << text;
  }
  /// The groups of the process, and mounts.
  void process(const std::string& groups, const std::string& mounts) {
    write("proc/self/cgroup", groups);
    write("proc/self/mountinfo", "22 27 0:21 / /proc rw,relatime - proc proc rw\n" + mounts);
  }
  std::optional<double> quota() const { return cpu_quota(root_.string()); }

  std::filesystem::path root_;
};

const char version2[] =
    "25 30 0:26 / /sys/fs/cgroup rw,nosuid,nodev,noexec,relatime shared:4 - cgroup2 cgroup2 rw,nsdelegate\n";
const char version1[] =
    "35 30 0:30 / /sys/fs/cgroup/cpu,cpuacct rw,relatime shared:9 - cgroup cgroup rw,cpu,cpuacct\n";

TEST_F(Quota, IsAbsentWhereNothingIsMounted) {
  EXPECT_EQ(quota(), std::nullopt);
  process("0::/\n", "");
  EXPECT_EQ(quota(), std::nullopt);
}

TEST_F(Quota, OfVersion2AtItsRoot) {
  process("0::/\n", version2);
  EXPECT_EQ(quota(), std::nullopt);
  write("sys/fs/cgroup/cpu.max", "50000 100000\n");
  EXPECT_EQ(quota(), 0.5);
  write("sys/fs/cgroup/cpu.max", "max 100000\n");
  EXPECT_EQ(quota(), std::nullopt);
}

// systemd's CPUQuota=150% of a service, and a slice above it.
TEST_F(Quota, OfVersion2BelowTheRootIsTheLeastOnTheWayUp) {
  process("0::/system.slice/classify.service\n", version2);
  write("sys/fs/cgroup/system.slice/classify.service/cpu.max", "150000 100000\n");
  EXPECT_EQ(quota(), 1.5);
  write("sys/fs/cgroup/system.slice/cpu.max", "25000 50000\n");
  EXPECT_EQ(quota(), 0.5);
  write("sys/fs/cgroup/system.slice/cpu.max", "max 100000\n");
  EXPECT_EQ(quota(), 1.5);
  write("sys/fs/cgroup/user.slice/cpu.max", "1000 100000\n");
  EXPECT_EQ(quota(), 1.5) << "another's";
}

TEST_F(Quota, OfVersion1) {
  process("5:memory:/other\n4:cpu,cpuacct:/jobs/7\n1:name=systemd:/x\n", version1);
  const std::string group = "sys/fs/cgroup/cpu,cpuacct/jobs/7/";
  write(group + "cpu.cfs_period_us", "100000\n");
  write(group + "cpu.cfs_quota_us", "-1\n");
  EXPECT_EQ(quota(), std::nullopt);
  write(group + "cpu.cfs_quota_us", "250000\n");
  EXPECT_EQ(quota(), 2.5);
  write("sys/fs/cgroup/cpu,cpuacct/jobs/cpu.cfs_period_us", "20000");
  write("sys/fs/cgroup/cpu,cpuacct/jobs/cpu.cfs_quota_us", "20000");
  EXPECT_EQ(quota(), 1);
  write("sys/fs/cgroup/cpu,cpuacct/other/cpu.cfs_period_us", "100000");
  write("sys/fs/cgroup/cpu,cpuacct/other/cpu.cfs_quota_us", "1000");
  EXPECT_EQ(quota(), 1) << "the memory controller's group";
}

// Docker with version 1: the host's name of the group, which is all of the mount.
TEST_F(Quota, OfAContainerWhoseMountIsItsGroup) {
  process("4:cpu,cpuacct:/docker/1f\n",
          "35 30 0:30 /docker/1f /sys/fs/cgroup/cpu\\040here ro - cgroup cgroup rw,cpuacct,cpu\n");
  write("sys/fs/cgroup/cpu here/cpu.cfs_period_us", "100000\n");
  write("sys/fs/cgroup/cpu here/cpu.cfs_quota_us", "50000\n");
  EXPECT_EQ(quota(), 0.5);
}

// With a namespace of its own, and the host's hierarchy beside it for a monitor.
TEST_F(Quota, OfAContainerThatIsTheRootOfItsMount) {
  process("0::/\n",
          std::string(version2) + "99 98 0:26 /../.. /host/sys/fs/cgroup ro - cgroup2 cgroup2 rw\n");
  write("sys/fs/cgroup/cpu.max", "200000 100000\n");
  write("host/sys/fs/cgroup/cpu.max", "1000 100000\n");
  EXPECT_EQ(quota(), 2);
}

// The name of the group is the host's, and the mount does not show where it is.
TEST_F(Quota, OfAContainerThatIsToldAnotherName) {
  process("0::/kubepods/pod7/1f\n", "25 30 0:26 /elsewhere /sys/fs/cgroup ro - cgroup2 cgroup2 rw\n");
  write("sys/fs/cgroup/cpu.max", "50000 100000\n");
  EXPECT_EQ(quota(), 0.5);
}

TEST_F(Quota, IsTheLeastOfBothVersions) {
  process("4:cpu:/a\n0::/b\n", std::string(version1) + "26 30 0:38 / /unified rw - cgroup2 cgroup2 rw\n");
  write("unified/b/cpu.max", "300000 100000");
  EXPECT_EQ(quota(), 3);
  write("sys/fs/cgroup/cpu,cpuacct/a/cpu.cfs_quota_us", "200000");
  write("sys/fs/cgroup/cpu,cpuacct/a/cpu.cfs_period_us", "100000");
  EXPECT_EQ(quota(), 2);
}

TEST_F(Quota, IsAbsentWhereItMakesNoSense) {
  process("0::/\n", version2);
  for (const char* text :
       {"", " ", "\n", "0 100000", "100000 0", "-1 100000", "100000 -1", "nan nan", "inf 1", "1e9 1",
        "99999999999999999999 100000", "100000", "1 2 3", "0x10 10", "max", "50000 100000x"}) {
    write("sys/fs/cgroup/cpu.max", text);
    EXPECT_EQ(quota(), std::nullopt) << text;
  }
  write("sys/fs/cgroup/cpu.max", "9223372036854775807 1");
  EXPECT_EQ(quota(), 9223372036854775807.0);
}

// Bytes of every kind where text is expected: no crash, no hang, and an answer above zero if any.
TEST_F(Quota, SurvivesAnyContent) {
  std::mt19937 random(1);
  const std::string lines[] = {version2, version1, "0::/a/b\n", "4:cpu,cpuacct:/a/b\n", "50000 100000\n"};
  const auto garbled = [&](std::string text) {
    for (int changes = static_cast<int>(random() % 6); changes-- > 0 && !text.empty();) {
      const std::size_t at = random() % text.size();
      if (random() % 2)
        text[at] = static_cast<char>(random());
      else if (random() % 2)
        text.erase(at, random() % 8);
      else
        text.insert(at, text.substr(random() % text.size(), random() % 20));
    }
    return text;
  };
  for (int round = 0; round < 300; round++) {
    process(garbled(lines[2] + lines[3]), garbled(lines[0] + lines[1]));
    write("sys/fs/cgroup/a/cpu.max", garbled(lines[4]));
    const auto found = quota();
    EXPECT_TRUE(!found || *found > 0);
  }
  // Long lines and many.
  process("0::" + std::string(1 << 20, '/') + "\n", version2);
  EXPECT_EQ(quota(), std::nullopt);
  std::string many;
  for (int i = 0; i < 20000; i++) many += version2;
  process("0::/" + std::string(2000, '/') + "\n", many + std::string(1 << 20, 'x'));
  quota();
}

// What this machine has does not make it fail.
TEST(CpuQuota, OfThisProcess) {
  const auto found = cpu_quota();
  EXPECT_TRUE(!found || *found > 0);
}

}  // namespace
}  // namespace replk::core
