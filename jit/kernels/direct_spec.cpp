#include "jit/kernels/direct_spec.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <bit>

#include "core/cpu.hpp"

namespace replk::jit {

std::string DirectSpec::text() const {
  std::string text = fmt::format(
      "direct {} tile={}x{} width={}>{} stride={}x{} x={} dst={},{} channels={} epilogue={},{}", name(isa),
      rows, columns, width, out_width, stride_h, stride_w, x_pixel_bytes, dst_pixel_bytes, dst_row_bytes,
      channels, static_cast<int>(activation), static_cast<int>(residual));
  if (block_rows + block_taps > 0) text += fmt::format(" blocks={},{}", block_rows, block_taps);
  text += " taps=";
  for (int tap : taps) text += fmt::format("{},", tap);
  text += " support=";
  for (std::size_t row = 0; row < support.size();) {  // runs of equal rows, since they are usually all alike
    std::size_t end = row;
    while (end < support.size() && support[end] == support[row]) end++;
    text += fmt::format("{}*", end - row);
    for (bool tap : support[row]) text += tap ? '1' : '0';
    text += ',';
    row = end;
  }
  return text;
}

namespace {

constexpr int most_roundings = 17;

int parts(int count, int each) {
  return (count + each - 1) / each;
}

/// How often a number can be halved until it is 1, rounded up: the height of a pairwise sum.
int height(int blocks) {
  return std::bit_width(static_cast<unsigned>(std::max(1, blocks) - 1));
}

}  // namespace

void cut_into_blocks(DirectSpec& spec) {
  const int rows = static_cast<int>(spec.support.size()), taps = static_cast<int>(spec.taps.size());
  if (rows * taps < most_roundings) return;
  for (int block = most_roundings / taps; block > 0; block--)
    if (block * taps + height(parts(rows, block)) <= most_roundings) {
      spec.block_rows = block;
      return;
    }
  spec.block_rows = 1;
  for (spec.block_taps = taps - 1; spec.block_taps > 1; spec.block_taps--)
    if (spec.block_taps + height(rows * parts(taps, spec.block_taps)) <= most_roundings) break;
  spec.block_taps = parts(taps, parts(taps, spec.block_taps));  // as many blocks, alike
}

int DirectSpec::input_rows() const {
  return static_cast<int>(support.size()) + (rows - 1) * stride_h;
}

bool DirectSpec::meets(int column, int tap) const {
  const int at = column * stride_w + taps[tap];
  return at >= 0 && at < width;
}

bool DirectSpec::blocks_end_apart() const {
  constexpr int most_rows = 16;
  return block_rows > 0 && block_taps == 0 && input_rows() <= most_rows;
}

int DirectSpec::blocks_of(int input_rows) const {
  const int in_row = block_taps > 0 ? parts(static_cast<int>(taps.size()), block_taps) : 1;
  return parts(input_rows, block_rows) * in_row;
}

int direct_blocks(const DirectSpec& spec) {
  if (spec.block_rows == 0) return 1;
  return spec.blocks_of(spec.blocks_end_apart() ? static_cast<int>(spec.support.size()) : spec.input_rows());
}

DirectPhases direct_phases(const DirectSpec& spec) {
  DirectPhases phases;
  const int kernel_rows = static_cast<int>(spec.support.size());
  for (int j = 0; j < spec.input_rows(); j++) {
    std::vector<std::vector<bool>> kind(spec.rows);
    bool any = false;
    for (int r = 0; r < spec.rows; r++) {
      const int row = j - r * spec.stride_h;
      if (row < 0 || row >= kernel_rows) continue;
      const auto& support = spec.support[row];
      if (std::find(support.begin(), support.end(), true) == support.end()) continue;
      kind[r] = support;
      any = true;
    }
    std::vector<bool> ends(spec.rows);
    for (int r = 0; spec.blocks_end_apart() && r < spec.rows; r++) {
      const int row = j - r * spec.stride_h;
      ends[r] = row > 0 && row < kernel_rows && row % spec.block_rows == 0;
    }
    const bool end = std::find(ends.begin(), ends.end(), true) != ends.end();
    if (end || (any && (phases.kinds.empty() || phases.kinds.back() != kind))) {
      phases.kinds.push_back(std::move(kind));
      phases.ends.push_back(std::move(ends));
    }
    phases.of_row.push_back(any ? static_cast<int>(phases.kinds.size()) - 1 : -1);
  }
  return phases;
}

namespace {

/// Whether a tile's columns lie in the padding with all their taps.
bool outside(const DirectSpec& spec, int first, int width) {
  return (first + width - 1) * spec.stride_w + spec.taps.back() < 0 ||
         first * spec.stride_w + spec.taps.front() >= spec.width;
}

}  // namespace

std::vector<DirectTile> direct_tiles(const DirectSpec& spec) {
  std::vector<DirectTile> tiles;
  const int count = (spec.out_width + spec.columns - 1) / spec.columns;
  const int last = static_cast<int>(spec.taps.size()) - 1;
  const int wider = spec.out_width % count;  // tiles, the first ones
  for (int i = 0, first = 0; i < count;) {
    const int width = spec.out_width / count + (i < wider);
    const bool interior = spec.meets(first, 0) && spec.meets(first + width - 1, 0) &&
                          spec.meets(first, last) && spec.meets(first + width - 1, last);
    int repeat = 1;
    if (interior) {  // and so are all of its width whose last pixel's last tap is still inside
      const int room = spec.width - 1 - (first + width - 1) * spec.stride_w - spec.taps[last];
      repeat += std::min(room / (width * spec.stride_w), (i < wider ? wider : count) - i - 1);
    } else {
      while (i + repeat < (i < wider ? wider : count) && outside(spec, first, width) &&
             outside(spec, first + repeat * width, width))
        repeat++;
    }
    tiles.push_back({first, width, repeat, interior});
    i += repeat;
    first += repeat * width;
  }
  return tiles;
}

std::int64_t direct_code_fmas(const DirectSpec& spec) {
  // Columns a tap meets, over the tiles that have code of their own.
  std::vector<std::int64_t> columns(spec.taps.size(), 0);
  for (const DirectTile& tile : direct_tiles(spec))
    for (std::size_t tap = 0; tap < spec.taps.size(); tap++)
      for (int t = 0; t < tile.width; t++) columns[tap] += spec.meets(tile.first + t, static_cast<int>(tap));
  std::int64_t sum = 0;
  for (const auto& kind : direct_phases(spec).kinds)
    for (const auto& support : kind)
      for (std::size_t tap = 0; tap < support.size(); tap++) sum += support[tap] ? columns[tap] : 0;
  return sum;
}

bool direct_fits(Isa isa, int rows, int columns, Activation activation) {
  const int registers = vector_registers(isa), sums = rows * columns;
  const int temporaries = activation == Activation::gelu ? 3 : 1;
  return rows >= 1 && columns >= 1 && rows <= 8 && columns <= 32 &&
         sums + std::max(rows, temporaries) <= registers;
}

std::vector<DirectSpec> DirectSpec::samples(Features features) {
  DirectSpec spec;
  spec.isa = isa_of(features);
  spec.taps = {-1, 0, 1};
  spec.support.assign(3, {true, true, true});
  spec.x_pixel_bytes = spec.dst_pixel_bytes = 256;
  spec.dst_row_bytes = 7 * 256;
  const int lanes = vector_floats(spec.isa);
  std::vector<DirectSpec> all;
  const auto add = [&](int tile_rows, int tile_columns, int lanes_that_exist, Activation end, bool residual) {
    spec.rows = tile_rows;
    spec.columns = tile_columns;
    spec.width = spec.out_width = 7 + 6 * (tile_rows > 1);  // one tile, or several alike
    spec.channels = lanes_that_exist;
    spec.activation = end;
    spec.residual = residual;
    all.push_back(spec);
  };
  add(1, 7, lanes - 1, Activation::gelu, true);
  add(1, 7, lanes, Activation::none, false);
  add(3, 3, lanes, Activation::relu, true);
  add(8, 1, lanes - 5, Activation::none, false);
  spec.block_rows = 1;  // the ways to end a block: each output row's, or all rows' between input rows or taps
  add(2, 3, lanes, Activation::none, false);
  spec.block_taps = 2;
  add(2, 3, lanes, Activation::relu, false);
  spec.block_taps = 0;
  spec.support.assign(17, {true, true, true});
  add(2, 3, 1, Activation::none, true);
  spec.support = {{false, true, false}, {true, true, true}, {false, false, false}, {true, false, true}};
  spec.block_rows = 0;
  add(1, 5, lanes, Activation::none, false);
  return all;
}

}  // namespace replk::jit
