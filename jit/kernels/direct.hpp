// Direct depthwise convolution of a few output rows: one vector lane is one channel, a register tile of rows
// x columns.
#pragma once
#include <cstdint>
#include <memory>
#include <vector>

#include "jit/kernels/direct_spec.hpp"
#include "jit/x64/code.hpp"

namespace replk::jit {

/// One input row that a call reads, with the weights of the kernel row it meets for output row 0. Byte
/// offsets.
struct DirectStep {
  std::int64_t x, weights;
};

/// What a call works on. The block of channels moves on by the strides below after each of `blocks` rounds
/// (weights by those of a whole block, bias by one vector).
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

}  // namespace replk::jit
