#include "depthwise/direct/geometry.hpp"

#include <algorithm>
#include <cstdlib>
#include <numeric>
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

int DirectTaps::row_step() const {
  int step = 0;
  for (int row : rows) step = std::gcd(step, row);
  return std::max(1, step);
}

DirectGeometry::DirectGeometry(const Request& request, const DirectParameters& t)
    : problem(request.problem),
      kernel(request.kernel),
      taps(kernel),
      vertical(request.vertical()),
      row_step(problem.stride_h == 1 ? taps.row_step() : 1),
      isa(request.isa()),
      finished(direct_has(problem.epilogue)),
      native(problem.layout == Layout::nhwc && problem.output_layout() == Layout::nhwc &&
             problem.type == DataType::f32 && problem.output_type() == DataType::f32 &&
             problem.multiplier == 1 && finished),
      lanes(vector_floats(isa)),
      blocks((problem.channels + lanes - 1) / lanes),
      tail(problem.channels % lanes),
      out_height(problem.out_height()),
      out_width(problem.out_width()) {
  set(t);
}

void DirectGeometry::set(const DirectParameters& t) {
  parameters = t;
  ring_rows =
      std::min((problem.height + row_step - 1) / row_step, kernel_rows() + (t.rows - 1) * problem.stride_h);
  ring_row = std::int64_t{problem.width} * lanes;
  ring_block = ring_rows * ring_row;
  out_row = std::int64_t{out_width} * lanes;
  out_block = t.rows * out_row;
}

DirectRows DirectGeometry::rows_from(int first) const {
  const auto rows = [&](int from, int end) { return std::max(0, (end - from + row_step - 1) / row_step); };
  const int origin = vertical.origin(first), in = (origin % row_step + row_step) % row_step;
  return {first, in,
          Axis{.input = rows(in, problem.height),
               .output = rows(first, out_height),
               .stride = vertical.stride,
               .offset = (origin - in) / row_step,
               .taps = kernel_rows()}};
}

int DirectGeometry::row_groups() const {
  int groups = 0;
  for (int first = 0; first < row_step; first++)
    groups += (rows_from(first).axis.output + parameters.rows - 1) / parameters.rows;
  return groups;
}

DirectDeal DirectGeometry::deal(std::int64_t batch, int threads) const {
  DirectDeal d{group_blocks(), 1, 1};
  const auto groups = [&] { return (blocks + d.blocks - 1) / d.blocks; };
  while (d.blocks > 1 && batch * groups() * row_groups() < threads) d.blocks = (d.blocks + 1) / 2;
  d.groups = groups();
  const std::int64_t tasks = batch * d.groups;
  const std::int64_t wanted = std::int64_t{direct_constants.tasks_a_thread} * threads;
  if (threads > 1)
    d.bands = static_cast<int>(std::clamp<std::int64_t>((wanted + tasks - 1) / tasks, 1, row_groups()));
  return d;
}

std::int64_t DirectGeometry::ring_bytes() const {
  return 4 * ring_block * (parameters.ring ? group_blocks() : tail ? 1 : 0);
}

std::int64_t DirectGeometry::out_bytes() const {
  return native ? 0 : 4 * out_block * group_blocks();
}

jit::DirectSpec DirectGeometry::specification(int rows, bool tail_code) const {
  const Problem& p = problem;
  jit::DirectSpec spec;
  spec.isa = isa;
  spec.rows = rows;
  spec.columns = parameters.columns;
  spec.width = p.width;
  spec.out_width = out_width;
  spec.stride_h = p.stride_h;
  spec.stride_w = p.stride_w;
  for (int b : taps.columns) spec.taps.push_back(kernel.offset_w + b);
  spec.support = taps.support;
  const Strides out = p.output_strides();
  spec.x_pixel_bytes = 4 * (parameters.ring || tail_code ? lanes : p.input_strides().pixel);
  spec.dst_pixel_bytes = 4 * (native ? out.pixel : lanes);
  spec.dst_row_bytes = 4 * (native ? out.row * row_step : out_row);
  spec.channels = tail_code ? tail : lanes;
  if (finished) {
    spec.activation = p.epilogue.activation;
    spec.residual = p.epilogue.residual;
  }
  if (p.numerics == Numerics::fast) jit::cut_into_blocks(spec);
  return spec;
}

bool DirectGeometry::code_fits() const {
  const int rows = parameters.rows;
  if (taps.rows.empty() || (rows > 1 && static_cast<int>(taps.rows.size()) != kernel_rows())) return false;
  return jit::direct_code_fmas(specification(rows, false)) <= max_code_fmas;
}

bool DirectGeometry::memory_fits() const {
  const Problem& p = problem;
  const Kernel& k = kernel;
  const DirectParameters& t = parameters;
  if (!t.ring && !native) return false;
  if (!jit::direct_fits(isa, t.rows, t.columns, finished ? p.epilogue.activation : Activation::none) ||
      t.rows > (out_height + row_step - 1) / row_step)
    return false;
  // Displacements in the code have 32 bits, and the longest spans a tile's rows or its inputs. (The tensors'
  // strides are at most 2^47 elements: the factors' products do not overflow.)
  const std::int64_t in_pixel = t.ring ? lanes : p.input_strides().pixel, vector = 4 * lanes;
  const Strides out = p.output_strides();
  const auto too_far = [](std::int64_t count, std::int64_t bytes) {
    return bytes > max_displacement / count;
  };
  if (too_far((t.rows + 1) * std::int64_t{row_step}, 4 * (native ? out.row : out_row))) return false;
  if (too_far(t.columns + 1, 4 * (native ? out.pixel : lanes))) return false;
  if (too_far(t.columns * p.stride_w + k.width + std::abs(k.offset_w), 4 * in_pixel)) return false;
  if (too_far((t.rows * p.stride_h + 1) * std::int64_t{k.width}, vector)) return false;
  return ring_bytes() + 2 * out_bytes() <= max_thread_workspace;
}

}  // namespace replk::depthwise
