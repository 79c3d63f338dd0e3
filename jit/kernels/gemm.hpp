// The inner kernel of a matrix product: a register tile of rows by two vectors of columns over packed
// weights.
#pragma once
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "core/cpu.hpp"
#include "core/types.hpp"
#include "jit/x64/code.hpp"

namespace replk::jit {

/// What is added to the sums, and what becomes of them. A long depth is cut into parts, so that no sum is a
/// long chain: the first part adds bias (and residual), the others what is in c, and the last has the
/// activation. Each part's sum starts small and meets the large residual once, at its end.
struct GemmSpec {
  Isa isa = Isa::avx2;
  int rows = 6;        // of the tile: 1..gemm_max_rows(isa)
  int columns = 16;    // that are computed: 1..gemm_panel(isa), the panel being packed with zeros behind them
  bool add_c = false;  // not with bias or add_residual
  bool bias = false;   // the sums start from it
  bool add_residual = false;  // for layers without activation
  Activation activation = Activation::none;
  bool end_residual = false;  // adds it behind the activation instead

  std::string text() const;
};

/// Columns of a packed panel.
constexpr int gemm_panel(Isa isa) {
  return 2 * vector_floats(isa);
}
/// Rows of a tile: with two columns of vectors, 12 (24) accumulators, enough to hide the latency of a
/// multiply-add.
constexpr int gemm_max_rows(Isa isa) {
  return isa == Isa::avx512 ? 12 : 6;
}

constexpr int gemm_unroll = 4;

/// One run: `tiles` tiles of rows below each other, one panel of columns.
/// c[r][j] = sum over k < depth of a[r][k] * panel[k][j], for r < tiles * rows, j < columns.
struct GemmArguments {
  const float* a;                   // row r at a + r * a_stride
  const float* panel;               // [depth][gemm_panel]
  float* c;                         // row r at c + r * c_stride; may equal residual
  const float* bias;                // [gemm_panel]: whole vectors are read
  const float* residual;            // rows like c's
  std::int64_t a_stride, c_stride;  // bytes
  std::int64_t depth, tiles;        // at least 1
  const float* prefetch;            // the panel that comes next: brought near meanwhile, never read
  std::int64_t prefetch_step;       // bytes, for each gemm_unroll of depth in each tile
  const char* later;                // the same for what another layer will read: one line each time; where
  std::int64_t later_step;          // it ends is left here. 64, or 0 to stand still
};
using GemmKernel = void (*)(GemmArguments*);

std::vector<std::uint8_t> generate(const GemmSpec& spec);
/// From the code cache. The code lives as long as the pointer.
std::shared_ptr<const Code> gemm_code(const GemmSpec& spec);

}  // namespace replk::jit
