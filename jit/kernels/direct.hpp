// Direct depthwise convolution of a few output rows: one vector lane is one channel, a register tile of rows
// x columns.
#pragma once
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "core/cpu.hpp"
#include "core/types.hpp"
#include "jit/x64/code.hpp"

namespace replk::jit {

/// One input row that a call reads, with the weights of the kernel row it meets for output row 0. Byte
/// offsets.
struct DirectStep {
  std::int64_t x, weights;
};

/// What a call works on. The block of channels moves on by the strides below after each of `blocks` rounds
/// (weights by DirectKernel::weights_bytes(), bias by one vector).
struct DirectArguments {
  const void* x;               // input column 0 of the channel block, to which a step's offset is added
  const float* weights;        // [row][tap column][lane] of the block
  const float* bias;           // [lane]
  float* dst;                  // output row 0, column 0 of the block
  const float* residual;       // as dst; unused without a residual
  const DirectStep* steps;     // all phases' one after the other
  const std::int32_t* counts;  // of steps, a phase
  std::int64_t blocks, x_block_bytes, dst_block_bytes;
};

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

std::vector<std::uint8_t> generate(const DirectSpec& spec);

class DirectKernel {
 public:
  /// Generates, or takes from the code cache. Precondition: the tile fits the registers (see direct_fits).
  explicit DirectKernel(const DirectSpec& spec);
  void operator()(const DirectArguments& arguments) const { entry_(&arguments); }
  std::size_t code_bytes() const { return code_->bytes().size(); }

 private:
  std::shared_ptr<const Code> code_;
  void (*entry_)(const DirectArguments*);
};

/// Whether a register tile fits: its sums, a weight a row, and what the epilogue needs.
bool direct_fits(Isa isa, int rows, int columns, Activation activation);

}  // namespace replk::jit
