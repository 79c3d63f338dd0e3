// What direct convolution takes on a machine.
#pragma once
#include <vector>

#include "depthwise/cost/machine.hpp"

namespace replk::depthwise {

/// Of the code for one row group of one block of channels.
struct DirectTiles {
  struct Tile {
    double fmas, loads, sums, added, repeat;  // added: sums of blocks of taps, each a load and an addition
  };
  std::vector<Tile> tiles;
  double input_rows = 0;
};
/// Where every kernel row meets the map.
double cycles(const Machine& machine, const DirectTiles& tiles);

/// Of a run. Pixels are those of one block of channels over one image.
struct DirectCounts {
  double threads, busy;  // busy: the share of their time, as tasks are dealt in whole numbers
  double vectors;        // blocks of channels of all images
  double vector_bytes, tensor_bytes;
  double in_pixels, out_pixels;  // out: the residual's too
  double row_groups;             // of an image
  double group;                  // blocks that take a row group together
  bool every_block;              // these are all blocks of an image
  bool ring;                     // rows are packed
  /// A tile is one pixel wide and takes all channels, and the pixels that it meets stay in the L1: each line
  /// of the tensors comes next to the one before.
  bool whole_pixels;
  bool converted;               // results are unpacked
  double taps, columns, tiles;  // of a kernel, of a tile, and of an output row
  double window, windows;       // inputs of a tile; times an input is in one
  double set_step;              // bytes between neighbours in a row within a way of the L1, at most 4096
  double stored_pixels;         // out_pixels without the residual's
};
/// tile_cycles: of a row group of one block.
double seconds(const Machine& machine, const DirectCounts& counts, double tile_cycles);

}  // namespace replk::depthwise
