// The order of a tensor [rows][channels] that AMX products multiply.
//
// [block of rows][step of channels][row of the block][bytes]: a tile, which is some rows by the channels of a
// step, is one piece of memory, and so is all that a block reads one step after the other. In rows of 2 or 4
// KiB the lines of a tile would lie in one set of the L1, and each write in another page.
#pragma once
#include <algorithm>
#include <cstddef>
#include <cstdint>

#include "core/types.hpp"

namespace replk::core {

/// Rows are padded to whole blocks with what is in memory: they make rows of results that nobody reads.
class TileOrder {
 public:
  static constexpr int tile_rows = 16;  // at most
  static constexpr std::int64_t line = 64;

  /// type: in tiles. channels are padded to whole steps: with zeros, as they are summed over.
  TileOrder(std::int64_t rows, std::int64_t channels, Element type)
      : channels_(step_channels(type)), piece_(type == Element::bf16x2_tiles ? 2 * line : line) {
    // Two tiles of one height a block, the lowest that needs no more of them.
    const std::int64_t tiles = 2 * quotient_up(rows, 2 * tile_rows);
    height_ = static_cast<int>(quotient_up(rows, tiles));
    blocks_ = quotient_up(rows, block_rows());
    steps_ = quotient_up(channels, channels_);
  }

  /// Channels that a step multiplies.
  static constexpr int step_channels(Element type) { return type == Element::u8_tiles ? 64 : 32; }
  int height() const { return height_; }  // of every tile
  std::int64_t block_rows() const { return 2 * std::int64_t{height_}; }
  std::int64_t blocks() const { return blocks_; }
  std::int64_t steps() const { return steps_; }
  /// Of a row's channels of a step; of bf16x2 a line of high parts, then one of low parts.
  std::int64_t piece_bytes() const { return piece_; }
  std::int64_t step_bytes() const { return block_rows() * piece_; }
  std::int64_t block_bytes() const { return steps_ * step_bytes(); }
  std::size_t bytes() const { return static_cast<std::size_t>(blocks_ * block_bytes()); }

  /// Where a value lies; of bf16x2 its high part, the low one a line behind it.
  std::int64_t offset(std::int64_t row, std::int64_t channel) const {
    return row / block_rows() * block_bytes() + channel / channels_ * step_bytes() +
           row % block_rows() * piece_ + channel % channels_ * (line / channels_);
  }

 private:
  static constexpr std::int64_t quotient_up(std::int64_t a, std::int64_t b) { return (a + b - 1) / b; }
  std::int64_t channels_, piece_, blocks_ = 0, steps_ = 0;
  int height_ = 0;
};

/// Of a tensor of any type.
inline std::size_t tensor_bytes(std::int64_t rows, std::int64_t channels, Element type) {
  return in_tiles(type) ? TileOrder(rows, channels, type).bytes()
                        : static_cast<std::size_t>(rows * channels) * size_of(type);
}

}  // namespace replk::core
