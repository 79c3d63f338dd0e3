// The one line of text that says how a problem is computed: what the tune cache stores and what a user reads.
#pragma once
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace replk::depthwise {

/// An algorithm's name and its named integer or word parameters, e.g.
/// `row-spectral n=28 factors=4x7 rows=7 karatsuba=0`. Untrusted until the algorithm's own read() has
/// accepted it.
struct Tiling {
  std::string algorithm;
  std::vector<std::pair<std::string, std::string>> fields;

  Tiling& set(std::string_view name, std::string_view value);
  Tiling& set(std::string_view name, int value);
  /// The value, or `otherwise` where it is absent or not an integer of at most 9 digits.
  int number(std::string_view name, int otherwise) const;
  std::string_view word(std::string_view name) const;  // empty where absent

  std::string to_string() const;
  /// Throws invalid_argument on anything but `word (name=value)*` of at most 256 printable characters.
  static Tiling parse(std::string_view text);
  bool operator==(const Tiling&) const = default;
};

}  // namespace replk::depthwise
