// What a problem may be: the limits of its numbers, checked where one is read and where one is made.
#pragma once
#include <cstdint>
#include <string_view>

#include "core/error.hpp"

namespace replk::depthwise {

constexpr int max_kernel = 63, max_line = 127, max_dilation = 64, max_side = 65536, max_stride = 16,
              max_count = 1 << 20, max_branches = 16, max_multiplier = 4;
constexpr std::int64_t max_elements = std::int64_t{1} << 47;

inline void check(std::string_view field, std::int64_t value, std::int64_t low, std::int64_t high) {
  if (value < low || value > high)
    core::fail(core::Status::invalid_argument, "{} is {}; allowed: {} to {}", field, value, low, high);
}

}  // namespace replk::depthwise
