// The cache's file: lines, appended under a lock and compacted by rename. Knows bytes and lines, not their
// meaning.
#pragma once
#include <cstdint>
#include <functional>
#include <string>
#include <string_view>
#include <vector>

namespace replk::tuner {

constexpr std::size_t kMostFileBytes = 16 << 20;
constexpr std::size_t kMostRecords = 100'000;

/// Nothing here throws: each call says in `fault` what went wrong, in one line that names the file, or leaves
/// it empty. A symbolic link is followed where it belongs to this user or to root, and stays when the file it
/// names is replaced. Only regular files are read or written.
class Store {
 public:
  explicit Store(std::string path) : path_(std::move(path)) {}
  const std::string& path() const { return path_; }

  struct Content {
    bool exists = false;
    std::string text, fault;
  };
  /// The file from this byte on, under a shared lock where one can be had.
  Content read(std::size_t from = 0) const;

  /// Which file stands at the path, and in which state; all zero where there is none.
  struct Stamp {
    std::uint64_t device = 0, inode = 0, size = 0;
    std::int64_t modified = 0;  // nanoseconds
    bool operator==(const Stamp&) const = default;
    bool same_file(const Stamp& other) const { return device == other.device && inode == other.inode; }
  };
  Stamp stamp() const;

  struct Written {
    bool ok = false, full = false;  // full: the file has reached its limits; compact it and try again
    std::string fault;
  };
  /// Appends one line and its newline with one write(2), after `header` where the file is new or empty;
  /// fdatasync before it says ok. Makes the directory (0700) and the file (0600). A write that the disk cuts
  /// short is taken back.
  Written append(const std::string& line, const std::string& header);

  /// Replaces the content by what `edit` makes of it, under the lock that append() takes: a temporary file
  /// beside it, fsync, rename. A process that dies in between leaves the old content.
  Written replace(const std::function<std::string(std::string_view old)>& edit);

 private:
  std::string path_;
};

}  // namespace replk::tuner
