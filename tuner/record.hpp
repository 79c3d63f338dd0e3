// One line of the tune cache: what was chosen for a key on a machine, and how it was found out.
#pragma once
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "tuner/key.hpp"

namespace replk::tuner {

constexpr int kCacheVersion = 1;
constexpr std::size_t kMostLineBytes = 4096;

/// Untrusted: its pick is text, and worth nothing until legal() has accepted it.
struct Record {
  std::string shape;    // as spelled
  std::string key;      // Key::json()
  std::string machine;  // machine_json() of where it was measured
  std::string pick;     // the tiling, spelled
  double seconds = 0;   // median
  int rounds = 0;
  double confidence = 0;
  bool tainted = false;
  std::string date;  // UTC, 2026-11-22T20:31:00Z
  std::vector<std::pair<std::string, double>>
      measured;      // other candidates and their seconds, for `replk explain`
  std::string line;  // as read, with the fields this version does not know

  /// What two records of one choice share.
  std::string identity() const { return key + machine; }
};

/// The record as its line, without the newline and with its checksum; at most kMostLineBytes (of `measured`,
/// what fits).
std::string to_line(const Record& record);

/// What a line is. `newer`: sound, but written by a later version of this library.
enum class LineKind { record, header, newer, damaged };
struct Line {
  LineKind kind = LineKind::damaged;
  Record record;
};
/// Never throws for any content.
Line read_line(std::string_view line);

std::string header_line();

/// The numeric fields' distance of the key in a record from this one; nothing where an exact field, or the
/// list of names, differs.
std::optional<double> distance(const Key& key, const std::string& record_key);

}  // namespace replk::tuner
