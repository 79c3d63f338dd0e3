// The inner kernel of a matrix product with narrow operands on vectors: the tile of the fp32 kernel, rows by
// two vectors of columns, a step of the reduction being four bytes of a row.
#pragma once
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "core/cpu.hpp"
#include "jit/kernels/narrow_epilogue.hpp"
#include "jit/x64/code.hpp"

namespace replk::jit {

/// How the products of one step are made.
enum class NarrowDot {
  vpdpbusd,      // four u8 by four s8, AVX512_VNNI
  vpdpbusd_vex,  // the same, AVX-VNNI
  vpmaddwd,      // two s16 by two s8 that are widened: exact, where vpmaddubsw would saturate
  vdpbf16ps,     // two bf16 by two bf16, AVX512_BF16
  fma,           // one fp32 by one fp32: bf16 operands, widened before
};
/// Inputs of one step.
constexpr int narrow_group(NarrowDot dot) {
  return dot == NarrowDot::fma ? 1 : dot == NarrowDot::vpmaddwd || dot == NarrowDot::vdpbf16ps ? 2 : 4;
}
constexpr bool sums_integers(NarrowDot dot) {
  return dot != NarrowDot::vdpbf16ps && dot != NarrowDot::fma;
}

struct NarrowProductSpec {
  Isa isa = Isa::avx2;
  NarrowDot dot = NarrowDot::vpmaddwd;
  int rows = 6;      // of the tile: 1..gemm_max_rows(isa)
  int columns = 16;  // that are computed: 1..gemm_panel(isa), the panel being packed with zeros behind them
  /// A long reduction of fp32 sums is made in parts, since the error of a chain grows with its length: what
  /// came of the parts before waits in memory, and only the last part is finished.
  bool first = true, last = true;
  NarrowOutputs outputs;

  std::string text() const;
};

/// One run: `tiles` tiles of rows below each other, one panel of columns.
struct NarrowProductArguments {
  const void* a;                                   // row r at a + r * a_stride, 4 bytes a step
  const void* panel;                               // [steps][gemm_panel][group]
  const float* channels;                           // [narrow_channel_rows][gemm_panel]
  float* dst;                                      // row r at dst + r * dst_stride; may equal residual
  const float* residual;                           // rows like dst's
  void* copy;                                      // row r at copy + r * copy_stride
  std::int64_t a_stride, dst_stride, copy_stride;  // bytes
  std::int64_t steps, tiles;                       // at least 1
  const void* prefetch;                            // the panel that comes next: never read
  std::int64_t prefetch_step;                      // bytes, for each gemm_unroll steps in each tile
  const char* later;        // the same for what another layer will read: one line each time; where
  std::int64_t later_step;  // it ends is left here. 64, or 0 to stand still
  float* waiting;           // [tiles][rows][vectors] of sums; for parts
};
using NarrowProductKernel = void (*)(NarrowProductArguments*);

std::vector<std::uint8_t> generate(const NarrowProductSpec& spec);
/// From the code cache. The code lives as long as the pointer.
std::shared_ptr<const Code> narrow_product_code(const NarrowProductSpec& spec);

}  // namespace replk::jit
