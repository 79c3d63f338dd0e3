// The shapes that the benchmark and the tuner's regret are measured on, in docs/shapes.md's spelling.
#pragma once
#include <string>
#include <string_view>
#include <vector>

namespace replk::bench {

struct Suite {
  std::string_view name, note;
  std::vector<std::string> shapes;
};

/// replknet, slak, convnext, table1, sizes, ragged.
const std::vector<Suite>& suites();
/// The 40 shapes of the tuner's figures: batch 1, and batch 8 of the first ten.
std::vector<std::string> tuning_shapes();

}  // namespace replk::bench
