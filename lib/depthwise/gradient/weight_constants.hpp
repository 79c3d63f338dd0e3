// What executors of weight gradients decide by that is neither in a tiling nor in the code of their kernels.
#pragma once
#include <cstdint>

namespace replk::depthwise {

/// WeightAlgorithm::constants() of all of them: what they sum and deal out by is theirs together.
struct WeightConstants {
  std::int32_t most_additions = 16;       // direct: of fp32 to a sum, then in double
  std::int32_t wanted_bytes = 256 << 10;  // direct: of packed rows, which stay in the L2
  std::int32_t pieces_together = 8;       // row-spectral: that are summed before the way back; more would add
                                          // roundings, and the way back takes little by then
  std::int32_t wanted_tasks = 16;         // of a run
  std::int32_t least_pieces = 4, few_groups = 4;  // of a slice, whose end costs; with fewer groups of
                                                  // channels one piece, where else nothing could be dealt out
  std::int32_t most_together = 128;  // taps that are gathered before they are transposed, or a row
  std::int32_t lanes = 8;            // portable: channels at once
};
inline constexpr WeightConstants weight_constants;

}  // namespace replk::depthwise
