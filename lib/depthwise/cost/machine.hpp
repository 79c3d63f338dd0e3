// What a CPU's time is made of: the constants of every prediction, so that predictions of different
// algorithms can be compared. Algorithms supply counts (direct_cost.hpp, spectral_cost.hpp).
#pragma once
#include <array>
#include <string_view>

#include "core/features.hpp"

namespace replk::depthwise {

/// Cycles unless said otherwise. A line is 64 bytes.
struct Machine {
  std::string_view name;
  double clock;         // cycles a second of a busy core
  double multiplies;    // vector multiply-adds that start in a cycle
  double operations;    // these and additions together
  double instructions;  // of any kind
  double plain;         // multiply-adds of portable code, of one core, a second

  /// Of direct: loads that start in a cycle; from a multiply-add to the next of its sum; and what beginning
  /// an input row, a tile, and each of a tile's sums costs beside.
  double loads, chain, tile_row, tile, tile_sum;
  double call;                   // of the code for a row group
  double ring, ring_group;       // to pack a pixel: of a block, and of a group of blocks together
  double unpacked;               // to read a pixel where it lies, a group
  double converted;              // of a pixel to or from another type, layout or epilogue
  double weights_bytes;          // of a group that stay in the L1; from there on
  double weights_pixel;          // more an output pixel
  double weights_tap;            // more a tap, tile and row group
  double refetch;                // of a pixel that a tile fetches again because few sets hold its window
  double stream, stream_blocks;  // of a pixel that goes past the L2, and of lines that lie apart in it
  double whole_pixels = 1;       // times `stream` where tiles of one pixel read and write line after line
  double bandwidth;              // bytes a second that bound a core; 0: nothing beyond `stream` does

  /// Of row-spectral and spectral: an instruction of a row pass; a line of planes that goes to the L2 and
  /// back, and one that does not fit there.
  double row_instruction, plane_in_l2, plane_beyond;
  std::array<double, 3> column;             // times the ideal of the column pass, by Karatsuba's levels
  double transform;                         // the same where columns are transformed
  double line;                              // of a line of the tensors from beyond the L2
  double colliding, ahead, window, across;  // more for it: pixels in few sets of the caches; prefetched
                                            // (less); through a window; along the map's height
  /// Vectors of 512 bits take a pipe of 256 twice: AVX2's code, with less to pad, is at times faster.
  bool splits = false;
  std::array<double, 4> run;  // times all, by bytes of a pixel that are used at once: 32, 64, 128, more
};

/// Calls f(name, constant) for each constant that a fit may move.
template <class F>
void each_constant(Machine& m, F f) {
  // clang-format off
  f("loads", m.loads); f("chain", m.chain); f("tile_row", m.tile_row); f("tile", m.tile); f("tile_sum", m.tile_sum);
  f("call", m.call); f("ring", m.ring); f("ring_group", m.ring_group); f("unpacked", m.unpacked);
  f("converted", m.converted); f("weights_pixel", m.weights_pixel); f("weights_tap", m.weights_tap);
  f("refetch", m.refetch); f("stream", m.stream); f("stream_blocks", m.stream_blocks);
  f("row_instruction", m.row_instruction); f("plane_in_l2", m.plane_in_l2); f("plane_beyond", m.plane_beyond);
  f("column[0]", m.column[0]); f("column[1]", m.column[1]); f("column[2]", m.column[2]);
  f("transform", m.transform); f("line", m.line); f("colliding", m.colliding); f("ahead", m.ahead);
  f("window", m.window); f("across", m.across);
  f("run[0]", m.run[0]); f("run[1]", m.run[1]); f("run[3]", m.run[3]);
  // clang-format on
}

/// The row for a CPU of this vendor with these features.
const Machine& machine(std::string_view vendor, Features features);
/// For this one.
const Machine& machine(Features features);

}  // namespace replk::depthwise
