// What times are taken with: a steady clock, and the median of several.
#pragma once
#include <algorithm>
#include <chrono>
#include <cstddef>
#include <vector>

namespace replk::core {

/// Seconds from some fixed point, of a clock that never goes back.
inline double seconds() {
  return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

/// The value in the middle, or the mean of the two there; of none it is 0.
inline double median(std::vector<double> values) {
  if (values.empty()) return 0;
  const auto middle = values.begin() + static_cast<std::ptrdiff_t>(values.size() / 2);
  std::nth_element(values.begin(), middle, values.end());
  if (values.size() % 2) return *middle;
  return (*middle + *std::max_element(values.begin(), middle)) / 2;
}

}  // namespace replk::core
