#include "depthwise/gradient/weight_direct_executor.hpp"

#include <algorithm>
#include <set>

#include "core/memory.hpp"
#include "depthwise/gradient/weight_constants.hpp"
#include "simd/taps.hpp"

namespace replk::depthwise {
namespace {

constexpr int most_additions = weight_constants.most_additions;
constexpr std::size_t wanted_bytes = weight_constants.wanted_bytes;
// Limits of what is legal.
constexpr std::size_t most_bytes = std::size_t{16} << 20;
constexpr int most_width = 1024;               // beyond, more would be added in fp32
constexpr std::int64_t most_products = 24000;  // multiply-adds of one routine's code
constexpr int most_column_groups = 8;

/// Rows of taps that have routines: all groups', the last one's, and single ones, which the others' borders
/// are left to.
std::set<int> row_counts(const WeightDirectGeometry& g) {
  std::set<int> counts{1, g.parameters.rows};
  if (const int rest = g.rows.count % g.parameters.rows) counts.insert(rest);
  return counts;
}

}  // namespace

Tiling WeightDirectParameters::tiling() const {
  Tiling t;
  t.algorithm = "direct";
  return t.set("rows", rows).set("columns", columns).set("packed", static_cast<int>(packed));
}

std::optional<WeightDirectParameters> WeightDirectParameters::parse(const Tiling& t) {
  WeightDirectParameters p;
  p.rows = t.number("rows", 0);
  p.columns = t.number("columns", 0);
  p.packed = t.number("packed", 0) == 1;
  if (p.rows < 1 || p.rows > 32 || p.columns < 1 || p.columns > 32 || p.tiling() != t) return {};
  return p;
}

WeightDirectGeometry::WeightDirectGeometry(const Problem& problem, const Kernel& kernel,
                                           const WeightDirectParameters& parameters, Isa isa)
    : problem(problem),
      parameters(parameters),
      isa(isa),
      vertical(depthwise::vertical(problem, kernel)),
      horizontal(depthwise::horizontal(problem, kernel)),
      rows(vertical_lags(kernel)),
      columns(horizontal_lags(kernel)),
      lanes(vector_floats(isa)),
      vector_bytes(4 * lanes) {}

bool WeightDirectGeometry::needs_packing() const {
  return problem.layout != Layout::nhwc || problem.output_layout() != Layout::nhwc ||
         problem.type != DataType::f32 || problem.multiplier != 1;
}

jit::WeightDirectSpec WeightDirectGeometry::spec(int tap_rows, int column_group, bool packed) const {
  const int first = column_group * parameters.columns;
  jit::WeightDirectSpec s;
  s.isa = isa;
  s.rows = tap_rows;
  s.columns = std::min(parameters.columns, columns.count - first);
  s.width = horizontal.input;
  s.out_width = horizontal.output;
  s.stride = horizontal.stride;
  s.step = columns.step;
  s.offset = horizontal.offset + columns.first + first * columns.step;
  const Strides x = problem.input_strides(), dy = problem.output_strides();
  const std::int64_t x_row = packed ? std::int64_t{s.width} * vector_bytes : 4 * x.row;
  s.x_pixel_bytes = packed ? vector_bytes : 4 * x.pixel;
  s.x_tap_bytes = rows.step * x_row;
  s.x_row_bytes = vertical.stride * x_row;
  s.dy_pixel_bytes = packed ? vector_bytes : 4 * dy.pixel;
  s.dy_row_bytes = packed ? std::int64_t{s.out_width} * vector_bytes : 4 * dy.row;
  s.sums_row_bytes = std::int64_t{columns.count} * vector_bytes;
  return s;
}

int WeightDirectGeometry::band() const {
  const jit::WeightDirectSpec s = spec(1, 0, true);
  int band = 1;
  while (band < vertical.output && jit::weight_direct_adds(s, band + 1) <= most_additions) band++;
  return band;
}

int WeightDirectGeometry::region() const {
  const int band = this->band();
  int region = band;
  while (region < vertical.output && packed_bytes(region + band) <= wanted_bytes) region += band;
  return region;
}

Range WeightDirectGeometry::inputs_of(int begin, int end) const {
  const int first = vertical.origin(begin) + rows.first, last = vertical.origin(end - 1) + rows.first;
  return {std::clamp(first, 0, vertical.input), std::clamp(last + rows.extent(), 0, vertical.input)};
}

std::size_t WeightDirectGeometry::packed_bytes(int output_rows) const {
  const std::int64_t x =
      std::min<std::int64_t>(vertical.input, std::int64_t{output_rows - 1} * vertical.stride + rows.extent());
  return static_cast<std::size_t>(x * horizontal.input + std::int64_t{output_rows} * horizontal.output) *
         vector_bytes;
}

bool WeightDirectGeometry::feasible() const {
  if (rows.count < 1 || columns.count < 1 || horizontal.output < 1 || vertical.output < 1) return false;
  if (horizontal.output > most_width || packed_bytes(band()) > most_bytes) return false;
  if (parameters.rows > rows.count || parameters.columns > columns.count) return false;
  if (!jit::weight_direct_fits(isa, parameters.rows, parameters.columns)) return false;
  if (column_groups() > most_column_groups || (parameters.packed && needs_packing())) return false;
  for (int group = 0; group < column_groups(); group++)
    if (jit::weight_direct_fmas(spec(parameters.rows, group, true)) > most_products) return false;
  const jit::WeightDirectSpec s = spec(parameters.rows, 0, packs(true));
  const std::int64_t reach =
      (std::int64_t{s.width} + 2 * most_extent) * s.x_pixel_bytes + parameters.rows * s.x_tap_bytes;
  return std::max({reach, s.x_row_bytes, s.out_width * s.dy_pixel_bytes, s.dy_row_bytes}) <= INT32_MAX;
}

WeightDirectExecutor::WeightDirectExecutor(const WeightDirectGeometry& g, const Kernel& kernel)
    : SlicedWeightExecutor(g.problem,
                           WeightScatter(g.problem, kernel, g.rows, g.columns,
                                         std::int64_t{g.columns.count} * g.lanes, g.lanes, g.lanes),
                           g.tile_floats(), 1, g.lanes),
      geometry_(g),
      input_(input_rows(g.problem)),
      output_(output_rows(g.problem)),
      band_(g.band()),
      region_(g.region()) {
  for (const bool packed : {false, true}) {
    const bool used = packed ? g.packs(true) || g.problem.channels % g.lanes : !g.packs(true);
    if (!used) continue;
    for (const int rows : row_counts(g))
      for (int group = 0; group < g.column_groups(); group++) {
        const jit::WeightDirectSpec spec = g.spec(rows, group, packed);
        code_.push_back(jit::get_code(spec.text(), [&] { return jit::generate(spec); }));
        code_of_[{rows, packed}].push_back(code_.back()->entry<jit::WeightDirect>());
      }
  }
}

/// The outputs that a row of taps meets the map for.
Range WeightDirectExecutor::outputs_of(int row) const {
  return geometry_.vertical.outputs_of(geometry_.rows.first + row * geometry_.rows.step);
}

std::size_t WeightDirectExecutor::scratch_bytes() const {
  const auto tile = static_cast<std::size_t>(geometry_.tile_floats());
  return core::round_up(tile * (sizeof(double) + sizeof(float)), core::alignment) +
         geometry_.packed_bytes(region_);
}

void WeightDirectExecutor::sum(const WeightGradientTensors& tensors, const Group& group, std::int64_t begin,
                               std::int64_t end, char* scratch, const Sums& sums) const {
  const WeightDirectGeometry& g = geometry_;
  const std::int64_t count = g.tile_floats();
  auto* const totals = reinterpret_cast<double*>(scratch);
  auto* const parts = reinterpret_cast<float*>(totals + count);
  char* const buffer =
      scratch +
      core::round_up(static_cast<std::size_t>(count) * (sizeof(double) + sizeof(float)), core::alignment);
  std::fill_n(totals, count, 0.0);
  for (std::int64_t image = begin; image < end; image++)
    for (int first = 0; first < g.vertical.output; first += region_) {
      const int last = std::min(first + region_, g.vertical.output);
      const Region r = region(tensors, group, image, first, last, buffer);
      for (int y = first; y < last; y += band_) {
        std::fill_n(parts, count, 0.0f);
        add_band(r, y, std::min(y + band_, last), parts);
        for (std::int64_t i = 0; i < count; i += g.lanes)
          simd::add_vectors(parts + i, 1, g.lanes, g.lanes, totals + i);
        for (int row = y; tensors.dbias && row < std::min(y + band_, last); row++)
          simd::add_vectors(reinterpret_cast<const float*>(r.dy + row * r.dy_row), g.horizontal.output,
                            r.dy_pixel / static_cast<std::int64_t>(sizeof(float)), g.lanes, sums.bias);
      }
    }
  for (std::int64_t i = 0; i < count; i++) sums.tiles[i] = static_cast<float>(totals[i]);
  scatter_.expect(group.channel, group.channels, tensors);
}

WeightDirectExecutor::Region WeightDirectExecutor::region(const WeightGradientTensors& tensors,
                                                          const Group& group, std::int64_t image, int begin,
                                                          int end, char* buffer) const {
  const WeightDirectGeometry& g = geometry_;
  if (!g.packs(group.whole))
    return {reinterpret_cast<const char*>(static_cast<const float*>(tensors.src) +
                                          input_.at(image, 0, group.channel)),
            reinterpret_cast<const char*>(static_cast<const float*>(tensors.dy) +
                                          output_.at(image, 0, group.channel)),
            4 * input_.row_stride,
            4 * output_.row_stride,
            4 * output_.pixel_stride,
            false};
  const Range in = g.inputs_of(begin, end);
  const std::int64_t x_row = std::int64_t{g.horizontal.input} * g.vector_bytes,
                     dy_row = std::int64_t{g.horizontal.output} * g.vector_bytes;
  char* const dy = buffer + in.size() * x_row;
  if (!in.empty())
    simd::pack_rows(input_, tensors.src,
                    {input_.at(image, in.first, group.channel), group.channels, in.size(), group.channel},
                    reinterpret_cast<float*>(buffer), {.lanes = g.lanes, .row_stride = x_row / 4});
  simd::pack_rows(output_, tensors.dy,
                  {output_.at(image, begin, group.channel), group.channels, end - begin, group.channel},
                  reinterpret_cast<float*>(dy), {.lanes = g.lanes, .row_stride = dy_row / 4});
  return {buffer - in.first * x_row, dy - begin * dy_row, x_row, dy_row, g.vector_bytes, true};
}

/// Rows of taps together where all meet the map, each by itself where some do not.
void WeightDirectExecutor::add_band(const Region& r, int begin, int end, float* sums) const {
  const WeightDirectGeometry& g = geometry_;
  const auto within = [](Range a, Range b) {
    return Range{std::max(a.first, b.first), std::min(a.end, b.end)};
  };
  for (int row = 0; row < g.rows.count; row += g.parameters.rows) {
    const int rows = std::min(g.parameters.rows, g.rows.count - row);
    Range common{begin, end};
    for (int i = row; i < row + rows; i++) common = within(common, outputs_of(i));
    for (int group = 0; group < g.column_groups(); group++) {
      if (!common.empty()) call(r, rows, row, group, common, sums);
      for (int i = row; i < row + rows; i++) {
        const Range all = within(outputs_of(i), {begin, end});
        if (common.empty()) {
          if (!all.empty()) call(r, 1, i, group, all, sums);
          continue;
        }
        if (all.first < common.first) call(r, 1, i, group, {all.first, common.first}, sums);
        if (all.end > common.end) call(r, 1, i, group, {common.end, all.end}, sums);
      }
    }
  }
}

void WeightDirectExecutor::call(const Region& r, int rows, int row, int column_group, Range outputs,
                                float* sums) const {
  const WeightDirectGeometry& g = geometry_;
  const std::int64_t input = g.vertical.origin(outputs.first) + g.rows.first + row * g.rows.step;
  const std::int64_t tap = std::int64_t{row} * g.columns.count + column_group * g.parameters.columns;
  code_of_.at({rows, r.packed})[column_group](r.x + input * r.x_row, r.dy + outputs.first * r.dy_row,
                                              sums + tap * g.lanes, outputs.size());
}

std::size_t WeightDirectExecutor::prepared_bytes() const {
  std::size_t bytes = 0;
  for (const auto& code : code_) bytes += code->bytes().size();
  return bytes;
}

}  // namespace replk::depthwise
