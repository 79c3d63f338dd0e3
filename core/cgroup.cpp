#include "core/cgroup.hpp"

#include <algorithm>
#include <charconv>
#include <cstdint>
#include <fstream>
#include <string_view>
#include <vector>

namespace replk::core {
namespace {

constexpr std::size_t most_bytes = std::size_t{16}
                                   << 20;  // of a file; a host of many containers has a long list
constexpr std::size_t most_mounts = 64, longest_group = 4096;

std::string content(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  std::string text;
  char part[4096];
  while (text.size() < most_bytes && (file.read(part, sizeof part), file.gcount() > 0))
    text.append(part, static_cast<std::size_t>(file.gcount()));
  return text;
}

std::vector<std::string_view> split(std::string_view text, char separator) {
  std::vector<std::string_view> parts;
  while (!text.empty()) {
    const std::size_t end = std::min(text.find(separator), text.size());
    if (end > 0) parts.push_back(text.substr(0, end));
    text.remove_prefix(std::min(end + 1, text.size()));
  }
  return parts;
}

bool has(const std::vector<std::string_view>& parts, std::string_view wanted) {
  return std::find(parts.begin(), parts.end(), wanted) != parts.end();
}

/// Blanks, backslashes and line ends are written as \040 and the like in mountinfo.
std::string unescaped(std::string_view text) {
  std::string plain;
  for (std::size_t i = 0; i < text.size(); i++) {
    unsigned value = 0;
    const char* const digits = text.data() + i + 1;
    if (text[i] == '\\' && i + 3 < text.size() &&
        std::from_chars(digits, digits + 3, value, 8).ptr == digits + 3) {
      plain += static_cast<char>(value);
      i += 3;
    } else {
      plain += text[i];
    }
  }
  return plain;
}

/// A hierarchy where it is mounted: `root` of it is seen at `point`.
struct Mount {
  bool version2;
  std::string root, point;
};

/// "36 35 0:29 /docker/1f /sys/fs/cgroup/cpu rw,relatime shared:1 - cgroup cgroup rw,cpu,cpuacct"
std::vector<Mount> mounts(const std::string& text) {
  std::vector<Mount> found;
  for (const std::string_view line : split(text, '\n')) {
    const std::size_t dash = line.find(" - ");
    if (dash == std::string_view::npos) continue;
    const auto before = split(line.substr(0, dash), ' '), behind = split(line.substr(dash + 3), ' ');
    if (before.size() < 5 || behind.size() < 3) continue;
    const bool version2 = behind[0] == "cgroup2";
    if (found.size() == most_mounts) break;
    if (version2 || (behind[0] == "cgroup" && has(split(behind[2], ','), "cpu")))
      found.push_back({version2, unescaped(before[3]), unescaped(before[4])});
  }
  return found;
}

/// The group of this process in the one hierarchy of version 2 ("0::/a/b") or in the CPU controller's of
/// version 1 ("4:cpu,cpuacct:/a/b"); empty where it is in none.
std::string group_of(const std::string& text, bool version2) {
  for (const std::string_view line : split(text, '\n')) {
    const std::size_t first = line.find(':'), second = line.find(':', first + 1);
    if (first == std::string_view::npos || second == std::string_view::npos) continue;
    const std::string_view controllers = line.substr(first + 1, second - first - 1);
    if (version2 ? line.substr(0, first) == "0" && controllers.empty() : has(split(controllers, ','), "cpu"))
      return std::string(line.substr(second + 1));
  }
  return {};
}

std::optional<std::int64_t> positive(std::string_view text) {
  std::int64_t value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc() || end != text.data() + text.size() || value <= 0) return std::nullopt;
  return value;
}

/// Of one group. "max 100000" and -1 say that there is none.
std::optional<double> quota_of(const std::string& directory, bool version2) {
  const std::string text =
      version2 ? content(directory + "/cpu.max")
               : content(directory + "/cpu.cfs_quota_us") + " " + content(directory + "/cpu.cfs_period_us");
  std::vector<std::string_view> words;
  for (const std::string_view line : split(text, '\n'))
    for (const std::string_view word : split(line, ' ')) words.push_back(word);
  if (words.size() != 2) return std::nullopt;
  const auto most = positive(words[0]), period = positive(words[1]);
  if (!most || !period) return std::nullopt;
  return static_cast<double>(*most) / static_cast<double>(*period);
}

/// Where a group lies below a mount, "" or "/a/b"; empty where the mount does not show it.
std::optional<std::string> below(const Mount& mount, const std::string& group) {
  const std::string root = mount.root == "/" ? "" : mount.root;
  if (!group.starts_with(root)) return std::nullopt;
  const std::string rest = group.substr(root.size());
  if (!rest.empty() && rest[0] != '/') return std::nullopt;
  return rest == "/" ? "" : rest;
}

void take_least(std::optional<double>& least, std::optional<double> quota) {
  if (quota && (!least || *quota < *least)) least = quota;
}

}  // namespace

std::optional<double> cpu_quota(const std::string& root) {
  const std::string groups = content(root + "/proc/self/cgroup");
  const std::vector<Mount> all = mounts(content(root + "/proc/self/mountinfo"));
  std::optional<double> least;
  for (const bool version2 : {false, true}) {
    const std::string group = group_of(groups, version2);
    if (group.empty() || group.size() > longest_group) continue;
    bool shown = false;
    for (const Mount& mount : all) {
      if (mount.version2 != version2) continue;
      std::optional<std::string> path = below(mount, group);
      if (!path) continue;
      shown = true;
      while (true) {
        take_least(least, quota_of(root + mount.point + *path, version2));
        if (path->empty()) break;
        path->resize(path->rfind('/'));
      }
    }
    // A container may see its own group as the root of the mount and yet read the host's name for it.
    for (const Mount& mount : all)
      if (!shown && mount.version2 == version2) take_least(least, quota_of(root + mount.point, version2));
  }
  return least;
}

}  // namespace replk::core
