#include "depthwise/direct/geometry.hpp"

#include <algorithm>
#include <cstdlib>
#include <utility>

namespace replk::depthwise {
namespace {

constexpr std::int64_t max_code_fmas = 60000;  // about half a megabyte
constexpr std::int64_t max_thread_workspace = 64 << 20;
constexpr std::int64_t max_displacement = INT32_MAX / 2;

}  // namespace

Tiling DirectParameters::tiling() const {
  Tiling t{"direct", {}};
  return t.set("rows", rows).set("columns", columns).set("ring", ring ? 1 : 0).set("blocks", blocks);
}

std::optional<DirectParameters> DirectParameters::read(const Tiling& t) {
  const int rows = t.number("rows", 0), columns = t.number("columns", 0), ring = t.number("ring", -1),
            blocks = t.number("blocks", 0);
  if (t.algorithm != "direct" || t.fields.size() != 4 || rows < 1 || rows > 8 || columns < 1 ||
      columns > 32 || (ring != 0 && ring != 1) || blocks < 1 || blocks > 4096)
    return std::nullopt;
  return DirectParameters{rows, columns, ring == 1, blocks};
}

DirectTaps::DirectTaps(const Kernel& k) {
  for (int b = 0; b < k.width; b++)
    for (int a = 0; a < k.height; a++)
      if (k.has(a, b)) {
        columns.push_back(b);
        break;
      }
  for (int a = 0; a < k.height; a++) {
    std::vector<bool> row;
    for (int b : columns) row.push_back(k.has(a, b));
    if (std::find(row.begin(), row.end(), true) == row.end()) continue;
    rows.push_back(a);
    support.push_back(std::move(row));
  }
}

DirectLayout::DirectLayout(const Problem& p, const Kernel& k, const DirectParameters& t, Isa isa)
    : native(p.layout == Layout::nhwc && p.output_layout() == Layout::nhwc && p.type == DataType::f32 &&
             p.multiplier == 1 && direct_has(p.epilogue)),
      finished(direct_has(p.epilogue)),
      lanes(vector_floats(isa)),
      channels(p.channels),
      blocks((p.channels + lanes - 1) / lanes),
      tail(p.channels % lanes),
      out_height(p.out_height()),
      out_width(p.out_width()),
      ring_rows(std::min(p.height, k.height + (t.rows - 1) * p.stride_h)),
      ring_row(std::int64_t{p.width} * lanes),
      ring_block(ring_rows * ring_row),
      out_row(std::int64_t{out_width} * lanes),
      out_block(t.rows * out_row) {}

int DirectLayout::group_blocks(const DirectParameters& t) const {
  return std::min(t.blocks, blocks);
}

int DirectLayout::row_groups(const DirectParameters& t) const {
  return (out_height + t.rows - 1) / t.rows;
}

DirectDeal DirectLayout::deal(const DirectParameters& t, std::int64_t batch, int threads) const {
  DirectDeal d{group_blocks(t), 1, 1};
  const auto groups = [&] { return (blocks + d.blocks - 1) / d.blocks; };
  while (d.blocks > 1 && batch * groups() * row_groups(t) < threads) d.blocks = (d.blocks + 1) / 2;
  d.groups = groups();
  const std::int64_t tasks = batch * d.groups;
  if (threads > 1)
    d.bands = static_cast<int>(std::clamp<std::int64_t>((4 * threads + tasks - 1) / tasks, 1, row_groups(t)));
  return d;
}

std::int64_t DirectLayout::ring_bytes(const DirectParameters& t) const {
  return 4 * ring_block * (t.ring ? group_blocks(t) : tail ? 1 : 0);
}

std::int64_t DirectLayout::out_bytes(const DirectParameters& t) const {
  return native ? 0 : 4 * out_block * group_blocks(t);
}

jit::DirectSpec direct_specification(const Problem& p, const Kernel& k, const DirectTaps& taps,
                                     const DirectParameters& t, Isa isa, int rows, bool tail) {
  const DirectLayout l(p, k, t, isa);
  jit::DirectSpec spec;
  spec.isa = isa;
  spec.rows = rows;
  spec.columns = t.columns;
  spec.width = p.width;
  spec.out_width = l.out_width;
  spec.stride_h = p.stride_h;
  spec.stride_w = p.stride_w;
  for (int b : taps.columns) spec.taps.push_back(k.offset_w + b);
  spec.support = taps.support;
  const Strides out = p.output_strides();
  spec.x_pixel_bytes = 4 * (t.ring || tail ? l.lanes : p.input_strides().pixel);
  spec.dst_pixel_bytes = 4 * (l.native ? out.pixel : l.lanes);
  spec.dst_row_bytes = 4 * (l.native ? out.row : l.out_row);
  spec.channels = tail ? l.tail : l.lanes;
  if (l.finished) {
    spec.activation = p.epilogue.activation;
    spec.residual = p.epilogue.residual;
  }
  if (p.numerics == Numerics::fast) jit::cut_into_blocks(spec);
  return spec;
}

bool direct_code_fits(const Problem& p, const Kernel& k, const DirectTaps& taps, const DirectParameters& t,
                      Isa isa) {
  if (taps.rows.empty() || (t.rows > 1 && !taps.every_row(k))) return false;
  return jit::direct_code_fmas(direct_specification(p, k, taps, t, isa, t.rows, false)) <= max_code_fmas;
}

bool direct_memory_fits(const Problem& p, const Kernel& k, const DirectParameters& t, Isa isa) {
  const DirectLayout l(p, k, t, isa);
  if (!t.ring && !l.native) return false;
  if (!jit::direct_fits(isa, t.rows, t.columns, l.finished ? p.epilogue.activation : Activation::none) ||
      t.rows > l.out_height)
    return false;
  // Displacements in the code have 32 bits, and the longest spans a tile's rows or its inputs. (The tensors'
  // strides are at most 2^47 elements: the factors' products do not overflow.)
  const std::int64_t in_pixel = t.ring ? l.lanes : p.input_strides().pixel, vector = 4 * l.lanes;
  const Strides out = p.output_strides();
  const auto too_far = [](std::int64_t count, std::int64_t bytes) {
    return bytes > max_displacement / count;
  };
  if (too_far(t.rows + 1, 4 * (l.native ? out.row : l.out_row))) return false;
  if (too_far(t.columns + 1, 4 * (l.native ? out.pixel : l.lanes))) return false;
  if (too_far(t.columns * p.stride_w + k.width + std::abs(k.offset_w), 4 * in_pixel)) return false;
  if (too_far((t.rows * p.stride_h + 1) * std::int64_t{k.width}, vector)) return false;
  return l.ring_bytes(t) + 2 * l.out_bytes(t) <= max_thread_workspace;
}

}  // namespace replk::depthwise
