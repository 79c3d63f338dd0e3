// What the engines of dense layers decide by that is neither in a choice's text nor in the code of their
// kernels. All of it is in every key (choice.cpp): with other values, what was measured before is a miss.
#pragma once
#include <cstdint>

namespace replk::dense {

struct Constants {
  // One accumulator sums so many products at most: the error of a chain grows with its length, and a network
  // of a hundred layers adds the layers' errors up. Of fp32, and of narrow operands.
  std::int32_t chain = 512, narrow_chain = 256;
  // Narrow products: parts of the reduction are cut between so many inputs; rows that a task converts; rows
  // of operands that are a multiple of so many bytes apart would share one set of the L1.
  std::int32_t part_unit = 8, converted_rows = 32, set_bytes = 1024;
  // AMX: rows finished beside one step, and lines prefetched (more would only be more code).
  std::int32_t rows_per_step = 8, lines_of_step = 32;
  // Plain loops: the register tile, and what a task takes.
  std::int32_t tile_pixels = 2, tile_outputs = 4, lanes = 4, pixel_block = 64, output_block = 64;
  std::int32_t narrow_rows = 16;
  // oneDNN: elements of a residual that a task copies.
  std::int32_t copied = 1 << 16;
};
inline constexpr Constants constants;

}  // namespace replk::dense
