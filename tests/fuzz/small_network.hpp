// Networks of each family that are planned and run within a millisecond, and how targets that load networks
// run: with portable code, which sanitizers see whole (generated code they do not), and with no tune cache.
#pragma once
#include <cstdlib>

#include "model/architecture.hpp"

namespace replk::fuzz {

constexpr int small_side = 32;  // of an input: its last maps have one pixel
constexpr int families = 5;

inline model::Architecture small_architecture(model::Family family) {
  model::Architecture row;
  row.name = "small";
  row.family = family;
  row.depths = {1, 1, 1, 1};
  row.channels = {4, 4, 6, 8};
  row.kernels = {7, 5, 3, 3};
  row.small_kernel = 3;
  row.classes = 10;
  row.smallest_side = small_side;
  if (family == model::Family::unireplknet) {
    row.channels = {4, 4, 8, 8};  // a quarter of them squeezed
    row.kernels = {3, 7, 3, 3};
  } else if (family == model::Family::mobilenetv2) {
    row.depths = {1, 1, 1, 1, 1, 1, 1};
    row.channels = {2, 3, 4, 4, 5, 5, 6};
    row.kernels = {3, 5, 3, 3, 3, 3, 3};
    row.stem_channels = 4;
    row.head_channels = 8;
  }
  return row;
}

/// Before anything asks for the CPU; REPLK_MAX_ISA from outside wins.
inline void use_portable_code() {
  setenv("REPLK_MAX_ISA", "portable", 0);
  setenv("REPLK_TUNING", "off", 1);
}

}  // namespace replk::fuzz
