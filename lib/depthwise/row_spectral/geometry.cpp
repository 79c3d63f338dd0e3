#include "depthwise/row_spectral/geometry.hpp"

#include <algorithm>
#include <numeric>

#include "core/memory.hpp"

namespace replk::depthwise {
namespace {

constexpr const RowSpectralConstants& constants = row_spectral_constants;
// Limits of what is legal: a record is read anew, so they need not be in its key.
constexpr int max_length = 320;               // of a transform: its code grows with it
constexpr std::int64_t max_products = 24000;  // multiply-adds of one column plane's code
constexpr int max_split = 256;  // outputs with Karatsuba's splitting, which spills some two vectors each
/// A transform's error goes by the norm of all it has transformed, and so does the largest of several
/// outputs; a few may all be small by chance, and direct is faster there.
constexpr std::int64_t least_outputs = 8;
constexpr std::size_t max_workspace = std::size_t{64} << 20;  // a thread

}  // namespace

Tiling RowSpectralParameters::tiling() const {
  Tiling t;
  columns->name(t);
  t.set("n", transform.n).set("factors", jit::to_string(transform.factors)).set("axis", along_h ? "h" : "w");
  columns->add_fields(*this, t);
  t.set("blocks", blocks);
  if (segment_along > 0) t.set("along", segment_along);
  if (segment_across > 0) t.set("across", segment_across);
  if (packed) t.set("packed", 1);
  if (ahead) t.set("ahead", 1);
  return t;
}

std::optional<RowSpectralParameters> RowSpectralParameters::rows_of(const Tiling& t) {
  RowSpectralParameters p;
  const auto within = [](int value, int low, int high) { return value >= low && value <= high; };
  p.transform.n = t.number("n", 0);
  if (!within(p.transform.n, 2, max_length)) return {};
  p.transform.factors = jit::parse_factors(t.word("factors"), p.transform.n);
  p.along_h = t.word("axis") == "h";
  p.blocks = t.number("blocks", 0);
  p.segment_along = t.number("along", 0);
  p.segment_across = t.number("across", 0);
  p.packed = t.number("packed", 0) == 1;
  p.ahead = t.number("ahead", 0) == 1;
  if (p.transform.factors.empty() || !within(p.blocks, 1, 8) || !within(p.segment_along, 0, 65536) ||
      !within(p.segment_across, 0, 65536))
    return {};
  return p;
}

RowSpectralGeometry::RowSpectralGeometry(const Request& request, const RowSpectralParameters& parameters)
    : problem(request.problem),
      parameters(parameters),
      isa(request.isa()),
      native_bf16(request.features.has(Feature::avx512_bf16)),
      lanes(vector_floats(isa)),
      vector_bytes(4 * lanes) {
  const bool h = parameters.along_h;
  const Kernel& kernel = request.kernel;
  along = h ? request.vertical() : request.horizontal();
  across = h ? request.horizontal() : request.vertical();
  along_segments = Segments(along, parameters.segment_along);
  across_segments = Segments(across, parameters.segment_across);
  // With one segment the transform may begin at the first pixel; several share weights, so they share
  // coordinates.
  if (along_segments.size() == 1) shift = along_segments[0].first;
  if (across_segments.size() == 1) column_shift = across_segments[0].first;
  for (int t = 0; t < across.taps; t++) {
    bool any = false;
    for (int u = 0; u < along.taps && !any; u++) any = h ? kernel.has(u, t) : kernel.has(t, u);
    if (any) across_taps.push_back(t);
  }
  std::vector<bool> seen(along.stride, false);
  for (int u = 0; u < along.taps; u++)
    for (int t : across_taps)
      seen[u % along.stride] = seen[u % along.stride] || (h ? kernel.has(u, t) : kernel.has(t, u));
  sees_every_input = std::find(seen.begin(), seen.end(), false) == seen.end();
  const int rows = std::max({1, across_segments.most_ins(), across_segments.most_outs()});
  // An odd number of cache lines from plane to plane spreads the planes of a row over all cache sets.
  int lines = static_cast<int>(core::round_up(static_cast<std::size_t>(rows) * vector_bytes, 64) / 64);
  lines += lines % 2 == 0;
  plane_stride = 64 * std::int64_t{lines};
  block_stride = plane_stride * (parameters.transform.planes() + 2);
}

bool RowSpectralGeometry::needs_buffer() const {
  return problem.layout != Layout::nhwc || problem.output_layout() != Layout::nhwc ||
         problem.multiplier != 1 || !finished();
}

jit::RowStrides RowSpectralGeometry::strides(bool output, bool buffer) const {
  jit::RowStrides s;
  if (buffer) {
    const Window w = window(output);
    s.pixel = 4 * (parameters.along_h ? w.row_stride : lanes);
    s.row = 4 * (parameters.along_h ? lanes : w.row_stride);
    s.tensor_block = 4 * w.block_stride;
  } else {
    const Strides tensor = output ? problem.output_strides() : problem.input_strides();
    const auto size = static_cast<std::int64_t>(size_of(output ? problem.output_type() : problem.type));
    s.pixel = size * (parameters.along_h ? tensor.row : tensor.pixel);
    s.row = size * (parameters.along_h ? tensor.pixel : tensor.row);
    s.tensor_block = size * lanes;
    if (parameters.ahead) s.ahead = parameters.blocks;
  }
  s.plane = plane_stride;
  s.plane_block = block_stride;
  return s;
}

jit::RowForwardSpec RowSpectralGeometry::forward(const Segment& segment, bool from_buffer) const {
  jit::RowForwardSpec spec;
  spec.isa = isa;
  spec.transform = parameters.transform;
  spec.first = segment.first - shift;
  spec.count = segment.ins;
  spec.strides = strides(false, from_buffer);
  spec.type = from_buffer ? DataType::f32 : problem.type;
  spec.free_signs = along_segments.size() == 1 && turned_signs.empty();
  spec.signs = turned_signs;
  return spec;
}

jit::RowInverseSpec RowSpectralGeometry::inverse(const Segment& segment, bool to_buffer,
                                                 const std::vector<int>& signs) const {
  jit::RowInverseSpec spec;
  spec.isa = isa;
  spec.transform = parameters.transform;
  spec.signs = signs;
  spec.count = segment.outs;
  spec.step = along.stride;
  spec.strides = strides(true, to_buffer);
  spec.type = to_buffer ? DataType::f32 : problem.output_type();
  spec.native_bf16 = native_bf16 && spec.type == DataType::bf16;
  spec.relu = finished() && problem.epilogue.activation == Activation::relu;
  spec.residual = finished() && problem.epilogue.residual;
  return spec;
}

jit::ToeplitzSpec RowSpectralGeometry::toeplitz(const Segment& segment) const {
  jit::ToeplitzSpec spec;
  spec.isa = isa;
  spec.outputs = segment.outs;
  spec.inputs = segment.ins;
  const int levels = parameters.columns->levels(*this);
  // Karatsuba's level costs least when the even taps are the fewer.
  const int parity = levels > 0 && across.taps % 2 == 1 ? 1 : 0;
  spec.first = segment.first + parity;
  spec.step = across.stride;
  for (int t : across_taps) spec.taps.push_back(t + parity);
  spec.karatsuba = levels;
  spec.tile = parameters.rows;
  spec.gauss = parameters.gauss;
  spec.plane_stride = plane_stride;
  spec.backwards = !turned_signs.empty();
  return spec;
}

jit::RowWeightsSpec RowSpectralGeometry::row_weights(const std::vector<int>& signs) const {
  jit::RowWeightsSpec spec;
  spec.isa = isa;
  spec.transform = parameters.transform;
  spec.taps = along.taps;
  spec.shift = shift;
  spec.signs = signs;
  spec.real_stride = 4 * real_floats();
  spec.pair_stride = 4 * pair_floats();
  return spec;
}

bool RowSpectralGeometry::shares_weights(const RowSpectralGeometry& other) const {
  const int n = parameters.transform.n;
  return isa == other.isa && problem.channels == other.problem.channels &&
         parameters.along_h == other.parameters.along_h && n == other.parameters.transform.n &&
         parameters.columns->packs_taps() && other.parameters.columns->packs_taps() &&
         along.taps == other.along.taps && (shift + other.shift - (along.taps - 1)) % n == 0;
}

bool RowSpectralGeometry::feasible() const {
  if (along.output * static_cast<std::int64_t>(across.output) < least_outputs) return false;
  if (along.output < least_transformed) return false;
  if (!sees_every_input) return false;  // a large one would cost accuracy, and no output be large with it
  if (along.output < 1 || across.output < 1 || across_taps.empty()) return false;
  if (parameters.transform.n < std::max(along_segments.least_length(), along.taps)) return false;
  if (!parameters.columns->feasible(*this)) return false;
  if (parameters.karatsuba > 0 && across.stride != 1) return false;
  // What keeps spilled values within the stack of a small thread.
  if (parameters.karatsuba > 0 && (!parameters.gauss || across_segments.most_outs() > max_split))
    return false;
  if (parameters.packed && needs_buffer()) return false;  // says nothing
  if (parameters.ahead && buffered()) return false;       // nor does this
  if (parameters.rows > (isa == Isa::avx512 ? 28 : 14)) return false;
  if (across_segments.most_outs() * static_cast<std::int64_t>(across_taps.size()) > max_products)
    return false;
  for (bool output : {false, true}) {
    if (buffered()) break;  // then the code sees the window alone
    const jit::RowStrides s = strides(output, false);
    if (s.pixel > INT32_MAX / std::max(1, output ? along.output : along.input) || s.row > INT32_MAX)
      return false;
  }
  if (block_stride > INT32_MAX) return false;
  return planes_bytes() + buffer_bytes() <= max_workspace;
}

std::size_t RowSpectralGeometry::planes_bytes() const {
  return static_cast<std::size_t>(block_stride) * parameters.blocks;
}

bool RowSpectralGeometry::pixels_collide() const {
  constexpr std::int64_t way = 4096, ways = 8;  // of the L1
  const std::int64_t step = strides(false, false).pixel;
  return window(false).pixels > 2 * ways * way / std::gcd(step, way);  // a few too many cost less than copies
}

RowSpectralGeometry::Window RowSpectralGeometry::window(bool output) const {
  const auto most = [&](const Segments& segments) {
    return std::max(1, output ? segments.most_outs() : segments.most_ins());
  };
  const int all = most(across_segments);
  Window w;
  w.pixels = most(along_segments);
  const int row_bytes = w.pixels * vector_bytes, blocks = buffered() ? parameters.blocks : 1;
  // The channels of a pixel lie together in channels-last, the pixels of a channel in NCHW.
  const bool pixels_first = (output ? problem.output_layout() : problem.layout) == Layout::nchw;
  w.rows = std::clamp(constants.window_bytes / (row_bytes * (pixels_first ? 1 : blocks)), 1, all);
  if (parameters.along_h && pixels_first) w.rows = std::min(static_cast<int>(core::round_up(w.rows, 8)), all);
  w.blocks = pixels_first ? std::clamp(constants.window_bytes / (row_bytes * w.rows), 1, blocks) : blocks;
  w.row_stride = std::int64_t{parameters.along_h ? w.rows : w.pixels} * lanes;
  w.block_stride = std::int64_t{w.rows} * w.pixels * lanes;
  return w;
}

std::size_t RowSpectralGeometry::buffer_bytes() const {
  if (!buffered() && tail_channels() == 0) return 0;
  const Window in = window(false), out = window(true);
  return 2 * sizeof(float) *
         static_cast<std::size_t>(std::max(in.blocks * in.block_stride, out.blocks * out.block_stride));
}

}  // namespace replk::depthwise
