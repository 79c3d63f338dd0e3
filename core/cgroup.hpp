// How much CPU time the control groups of this process leave it.
#pragma once
#include <optional>
#include <string>

namespace replk::core {

/// CPUs' worth of time that the process may use: the least quota of its groups, from its own up to the root
/// of each hierarchy that is mounted, versions 1 (cpu.cfs_quota_us) and 2 (cpu.max) alike; such as 0.5. Empty
/// where no group has one. Files are read below `root`; what is in them is not trusted: a line that makes no
/// sense counts as absent. Source: cgroups(7), proc(5), Documentation/admin-guide/cgroup-v2.rst.
std::optional<double> cpu_quota(const std::string& root = "");

}  // namespace replk::core
