// A picture of numbers on a map, with a colour bar.
#pragma once
#include <span>
#include <string>
#include <vector>

#include "cli/common.hpp"
#include "image/image.hpp"

namespace replk::cli {

/// A square outlined on the map, `side` pixels of the map around its central one, with its name.
struct Frame {
  int side = 1;
  std::string label;  // of 0123456789%
};

/// values: [height][width], 0..1. Small maps are enlarged by a whole number, large ones averaged down, to
/// some 500 pixels a side; the colour bar, 0 to 1, stands to the right.
image::Image draw_heat_map(std::span<const double> values, Size size, const std::vector<Frame>& frames);

}  // namespace replk::cli
