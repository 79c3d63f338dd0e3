// What a choice depends on. Two keys that differ in any field have nothing to do with each other, except that
// the numeric fields say how near they are.
#pragma once
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace replk::tuner {

/// One named value of a problem. Exact fields (weight 0) must match for a transfer. Numeric ones hold an
/// integer and give distance: weight * |log2(a / b)|, so that a field that hardly moves the best tiling
/// (batch) can weigh little.
struct KeyField {
  std::string name, value;
  double weight = 0;
  bool numeric() const { return weight > 0; }
};

/// An exact and a numeric field.
KeyField word(std::string_view name, std::string_view value);
KeyField number(std::string_view name, std::int64_t value, double weight = 1);

/// A problem as the tuner sees it. The machine is not part of it: the tuner adds its own.
struct Key {
  std::string shape;             // as the user spells the problem; for people, never compared
  std::vector<KeyField> fields;  // ordered; problem, threads, and the version of the algorithms

  /// {"name":"value","name":3}: what is compared and stored.
  std::string json() const;
};

/// This machine as JSON: vendor, family, model, stepping, instruction set in use, cache sizes, usable cores.
const std::string& machine_json();

}  // namespace replk::tuner
