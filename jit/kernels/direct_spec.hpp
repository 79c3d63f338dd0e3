// What the code of a direct depthwise convolution is generated from, and what follows from it without
// generating it.
#pragma once
#include <cstdint>
#include <string>
#include <vector>

#include "core/features.hpp"
#include "core/types.hpp"

namespace replk::jit {

/// Everything the code depends on. Pixels are fp32 channel vectors at fixed byte strides.
struct DirectSpec {
  Isa isa = Isa::avx2;
  int rows = 1, columns = 1;  // register tile of outputs; columns is the most, a row is cut into equal tiles
  int width = 1, out_width = 1;  // of the map
  int stride_h = 1, stride_w = 1;
  std::vector<int> taps;  // input column of each tap column, for output column 0 (ascending, any sign)
  std::vector<std::vector<bool>> support;  // [kernel row][tap column]; rows > 1 needs a tap in each row
  std::int64_t x_pixel_bytes = 0, dst_pixel_bytes = 0, dst_row_bytes = 0;  // residual is laid out as dst
  int channels = 8;  // lanes of dst (and residual) that exist
  Activation activation = Activation::none;
  bool residual = false;
  /// Where the fixed order of class exact is not asked for: how sums are cut into blocks of taps, whose sums
  /// are added pairwise. A block ends behind `block_rows` input rows, and within a row behind `block_taps`
  /// tap columns; 0: never.
  int block_rows = 0, block_taps = 0;

  std::string text() const;
  int input_rows() const;                 // that a call may meet, over all output rows
  bool meets(int column, int tap) const;  // whether a tap of an output column lies in the map
  /// Whether blocks end in straight-line code, each output row's when it must: where there are so few input
  /// rows that each may have code of its own. Elsewhere all end together, in a routine.
  bool blocks_end_apart() const;
  /// How many blocks so many input rows make.
  int blocks_of(int input_rows) const;
  /// Between them every branch of the generator (samples.hpp).
  static std::vector<DirectSpec> samples(Features features);
};

/// Cuts the sums of a spec so that no product passes through more than about 17 roundings, each at most 2^-24
/// of a partial sum: what class fast allows, whatever the data. Sums that are short enough stay as they are.
void cut_into_blocks(DirectSpec& spec);
/// How many blocks end in a sum, that of the last one included.
int direct_blocks(const DirectSpec& spec);

/// Which of the output rows an input row serves, and through which tap columns: consecutive input rows of the
/// same kind share one loop in the code.
struct DirectPhases {
  /// [phase][output row]: the kernel row's support, or empty where the output row does not meet it.
  std::vector<std::vector<std::vector<bool>>> kinds;
  /// [phase][output row]: whether a block of its sums ends before.
  std::vector<std::vector<bool>> ends;
  /// Phase of the j-th input row from the first that output row 0 can meet; -1 where no tap meets it.
  std::vector<int> of_row;
};
DirectPhases direct_phases(const DirectSpec& spec);

/// One stretch of equal column tiles: whose taps all meet the map, or none of them, or a single one.
struct DirectTile {
  int first, width, repeat;
  bool interior;  // every tap of every column meets the map
};
std::vector<DirectTile> direct_tiles(const DirectSpec& spec);

/// Multiply-add instructions in the code: its size is about 9 bytes times that.
std::int64_t direct_code_fmas(const DirectSpec& spec);

/// Whether a register tile fits: its sums, a weight a row, and what the epilogue needs.
bool direct_fits(Isa isa, int rows, int columns, Activation activation);

}  // namespace replk::jit
