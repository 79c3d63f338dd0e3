#include "depthwise/gradient/weight_spectral_geometry.hpp"

#include <algorithm>

#include "core/memory.hpp"
#include "depthwise/gradient/weight_constants.hpp"

namespace replk::depthwise {
namespace {

constexpr int pieces_together = weight_constants.pieces_together;
/// As of the forward pass's outputs: a few taps may all be small by chance.
constexpr int least_taps = 8, least_along = 4;
constexpr std::int64_t max_products = 24000;  // multiply-adds of one column plane's code
constexpr int max_split = 256;                // rows with Karatsuba's splitting
constexpr std::int64_t max_tile_bytes = std::int64_t{16} << 20;

}  // namespace

WeightSpectralGeometry::WeightSpectralGeometry(const Problem& problem, const Kernel& kernel,
                                               const RowSpectralParameters& parameters, Isa isa)
    : forward({problem, Pass::forward, features_of(isa), 1}, parameters) {
  RowSpectralGeometry& f = forward;
  along = parameters.along_h ? vertical_lags(kernel) : horizontal_lags(kernel);
  across = parameters.along_h ? horizontal_lags(kernel) : vertical_lags(kernel);
  const int rows = std::max({1, f.across_segments.most_ins(), f.across_segments.most_outs(), across.count});
  // An odd number of cache lines, as there.
  const auto lines =
      core::round_up(static_cast<std::size_t>(rows) * f.vector_bytes, core::alignment) / core::alignment;
  f.plane_stride = static_cast<std::int64_t>((lines | 1) * core::alignment);
  f.block_stride = f.plane_stride * parameters.transform.planes();
  together = pieces(problem.batch) > 1 ? pieces_together : 1;
  signs_.assign(parameters.transform.planes(), 1);
  // A tiling that is yet to be judged may be of another problem.
  if (f.along_segments.size() == 1 && f.along_segments[0].ins > 0 &&
      parameters.transform.n >= f.along_segments.least_length())
    signs_ = jit::row_signs(f.forward(f.along_segments[0], false));
}

jit::RowForwardSpec WeightSpectralGeometry::rows(bool dy, const Segment& segment, bool from_buffer) const {
  if (!dy) return forward.forward(segment, from_buffer);
  jit::RowForwardSpec spec;
  spec.isa = forward.isa;
  spec.transform = forward.parameters.transform;
  spec.count = segment.outs;
  spec.step = forward.along.stride;
  spec.strides = forward.strides(true, from_buffer);
  spec.type = from_buffer ? DataType::f32 : forward.problem.type;
  spec.free_signs = false;
  // A correlation multiplies by the conjugate. Where the input's two planes of a frequency have different
  // signs, they are its conjugate up to a common sign.
  spec.signs.assign(signs_.size(), 1);
  for (int j = spec.transform.reals(); j < spec.transform.planes(); j += 2)
    spec.signs[j + 1] = -signs_[j] * signs_[j + 1];
  return spec;
}

jit::ToeplitzSpec WeightSpectralGeometry::columns(const Segment& segment) const {
  jit::ToeplitzSpec spec;
  spec.isa = forward.isa;
  spec.outputs = across.count;
  spec.step = across.step;
  spec.inputs = segment.ins;
  const int levels = forward.parameters.karatsuba;
  // Karatsuba's level costs least when the even taps (rows of dy) are the fewer.
  const int parity = levels > 0 && segment.outs % 2 == 1 ? 1 : 0;
  spec.first = segment.first - across.first + parity;
  for (int q = 0; q < segment.outs; q++) spec.taps.push_back(q * forward.across.stride + parity);
  spec.karatsuba = levels;
  spec.tile = forward.parameters.rows;
  spec.gauss = forward.parameters.gauss;
  spec.plane_stride = forward.plane_stride;
  spec.weight_planes = true;
  spec.accumulate = together > 1;
  return spec;
}

jit::RowInverseSpec WeightSpectralGeometry::taps(bool add) const {
  const int n = forward.parameters.transform.n;
  jit::RowInverseSpec spec;
  spec.isa = forward.isa;
  spec.transform = forward.parameters.transform;
  spec.signs = signs_;
  spec.first = ((along.first - forward.shift) % n + n) % n;
  spec.count = along.count;
  spec.step = along.step;
  spec.strides.pixel = forward.vector_bytes;
  spec.strides.row = std::int64_t{along.count} * forward.vector_bytes;
  spec.strides.plane = forward.plane_stride;
  spec.strides.tensor_block = 4 * tile_floats();
  spec.strides.plane_block = forward.block_stride;
  spec.residual = add;
  spec.scaled = true;
  return spec;
}

bool WeightSpectralGeometry::feasible() const {
  const RowSpectralGeometry& f = forward;
  if (!f.feasible()) return false;
  if (along.count < least_along || std::int64_t{along.count} * across.count < least_taps) return false;
  if (f.parameters.karatsuba > 0 &&
      (across.step != 1 || f.across_segments.most_outs() > max_split || across.count > max_split))
    return false;
  if (std::int64_t{across.count} * f.across_segments.most_outs() > max_products) return false;
  return 4 * tile_floats() * f.parameters.blocks <= max_tile_bytes && f.block_stride <= INT32_MAX;
}

}  // namespace replk::depthwise
