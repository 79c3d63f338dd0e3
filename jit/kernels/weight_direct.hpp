// The weight gradient of a few taps by its definition: each tap's sum is an accumulator, one vector lane a
// channel.
#pragma once
#include <cstdint>
#include <string>
#include <vector>

#include "core/cpu.hpp"

namespace replk::jit {

/// Everything the code depends on. Pixels are fp32 channel vectors at fixed byte strides. Tap (i, j) sums,
/// over output rows y and columns q, dy[y][q] * x[y + i][q * stride + j * step + offset], x's row y + i
/// meaning what the strides below say; columns outside [0, width) are skipped.
struct WeightDirectSpec {
  Isa isa = Isa::avx2;
  int rows = 1, columns = 1;  // of taps; their product is the number of accumulators
  int width = 1, out_width = 1;
  int stride = 1, step = 1, offset = 0;
  std::int64_t x_pixel_bytes = 0, x_tap_bytes = 0, x_row_bytes = 0;  // tap_bytes: between rows of taps
  std::int64_t dy_pixel_bytes = 0, dy_row_bytes = 0;
  std::int64_t sums_row_bytes = 0;  // taps of a row are a vector apart
  std::string text() const;
};

/// Adds to sums what `rows` output rows give, at least 1. x: column 0 of the row that the first row of taps
/// meets for the first of them; dy: its column 0. No product passes through more than weight_direct_chain
/// roundings in an accumulator, and then through one for each piece of rows that follows:
/// weight_direct_adds() additions to sums for so many rows.
using WeightDirect = void (*)(const void* x, const void* dy, void* sums, std::int64_t rows);
constexpr int weight_direct_chain = 32;
int weight_direct_adds(const WeightDirectSpec& spec, int rows);

/// Whether there are registers for it.
bool weight_direct_fits(Isa isa, int rows, int columns);
/// Multiply-adds in the code, which it grows with.
std::int64_t weight_direct_fmas(const WeightDirectSpec& spec);

std::vector<std::uint8_t> generate(const WeightDirectSpec& spec);

}  // namespace replk::jit
