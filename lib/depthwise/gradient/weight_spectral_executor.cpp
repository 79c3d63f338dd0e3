#include "depthwise/gradient/weight_spectral_executor.hpp"

#include <algorithm>
#include <cstring>

#include "simd/taps.hpp"

namespace replk::depthwise {
namespace {

/// Of a tile: rows are the axis across, but for along=h.
WeightScatter scatter_of(const WeightSpectralGeometry& g, const Kernel& kernel) {
  const bool h = g.forward.parameters.along_h;
  const std::int64_t lane = g.forward.lanes, row = g.along.count * lane;
  return WeightScatter(g.forward.problem, kernel, h ? g.along : g.across, h ? g.across : g.along,
                       h ? lane : row, h ? row : lane, g.forward.lanes);
}

}  // namespace

template <class Function>
Function WeightSpectralExecutor::code(const std::string& spec,
                                      const std::function<std::vector<std::uint8_t>()>& generate) {
  code_.push_back(jit::get_code(spec, generate));
  return code_.back()->entry<Function>();
}

WeightSpectralExecutor::WeightSpectralExecutor(const WeightSpectralGeometry& geometry, const Kernel& kernel)
    : SlicedWeightExecutor(geometry.forward.problem, scatter_of(geometry, kernel), geometry.tile_floats(),
                           geometry.forward.parameters.blocks, geometry.forward.lanes),
      geometry_(geometry),
      zeros_(static_cast<std::size_t>(geometry.forward.lanes) * geometry.forward.parameters.blocks, true) {
  const WeightSpectralGeometry& g = geometry_;
  src_ = row_pass(false);
  dy_ = row_pass(true);
  for (const auto& [s, begin, count] : g.forward.across_segments.runs()) {
    columns_.push_back(nullptr);
    if (s.ins == 0) continue;
    const jit::ToeplitzSpec spec = g.columns(s);
    column_scratch_ = std::max(column_scratch_, jit::scratch_bytes(spec));
    columns_.back() = code<jit::Toeplitz>(spec.text(), [&] { return jit::generate(spec); });
  }
  const auto back = [&](bool add) {
    const jit::RowInverseSpec spec = g.taps(add);
    return code<jit::RowInverse>(spec.text(), [&] { return jit::generate(spec); });
  };
  first_ = back(false);
  further_ = back(true);
}

WeightSpectralExecutor::RowPass WeightSpectralExecutor::row_pass(bool dy) {
  const RowSpectralGeometry& f = geometry_.forward;
  RowPass pass{dy ? output_rows(f.problem) : input_rows(f.problem), f.window(dy), {}, {}};
  const auto rows = [&](const Segment& s, bool buffer) {
    const jit::RowForwardSpec spec = geometry_.rows(dy, s, buffer);
    return code<jit::RowForward>(spec.text(), [&] { return jit::generate(spec); });
  };
  for (const auto& [s, begin, count] : f.along_segments.runs()) {
    const bool any = dy || s.ins > 0;
    pass.direct.push_back(any && !f.buffered() && f.whole_blocks() > 0 ? rows(s, false) : nullptr);
    pass.buffered.push_back(any && (f.buffered() || f.tail_channels() > 0) ? rows(s, true) : nullptr);
  }
  return pass;
}

WeightSpectralExecutor::Piece WeightSpectralExecutor::piece(std::int64_t index) const {
  const RowSpectralGeometry& f = geometry_.forward;
  const int across = static_cast<int>(index % f.across_segments.size());
  index /= f.across_segments.size();
  const int along = static_cast<int>(index % f.along_segments.size());
  return {index / f.along_segments.size(), f.along_segments[along], f.across_segments[across],
          f.along_segments.run_of(along), f.across_segments.run_of(across)};
}

/// All rows of the input, or of dy, that a piece has.
void WeightSpectralExecutor::transform(const RowPass& pass, const Piece& piece, bool dy, const void* tensor,
                                       const Group& group, char* planes, float* window) const {
  const RowSpectralGeometry& f = geometry_.forward;
  const bool h = f.parameters.along_h;
  const int pixel = dy ? piece.along.out : piece.along.in, pixels = dy ? piece.along.outs : piece.along.ins;
  const int first = dy ? piece.across.out : piece.across.in, all = dy ? piece.across.outs : piece.across.ins;
  const auto element = [&](int row, int channel) {
    return pass.layout.at(piece.image, h ? pixel : row, channel, h ? row : pixel);
  };
  if (!buffered(group))
    return pass.direct[piece.along_run](
        static_cast<const char*>(tensor) +
            static_cast<std::int64_t>(size_of(f.problem.type)) * element(first, group.channel),
        planes, all, group.blocks);
  const RowSpectralGeometry::Window& w = pass.window;
  for (int b = 0; b < group.blocks; b += w.blocks) {
    const int channel = group.channel + b * f.lanes,
              channels = std::min(group.channels - b * f.lanes, w.blocks * f.lanes);
    for (int r = 0; r < all; r += w.rows) {
      const int rows = std::min(w.rows, all - r);
      simd::RowLayout part = pass.layout;
      part.width = h ? rows : pixels;
      simd::pack_rows(part, tensor, {element(first + r, channel), channels, h ? pixels : rows, channel},
                      window, {f.lanes, w.block_stride, w.row_stride});
      pass.buffered[piece.along_run](window, planes + b * f.block_stride + std::int64_t{r} * f.vector_bytes,
                                     rows, std::min(group.blocks - b, w.blocks));
    }
  }
}

/// Plane 0 has the sum of each row.
void WeightSpectralExecutor::add_bias(const Piece& piece, const Group& group, const char* planes,
                                      double* bias) const {
  const RowSpectralGeometry& f = geometry_.forward;
  for (int b = 0; b < group.blocks; b++)
    simd::add_vectors(reinterpret_cast<const float*>(planes + b * f.block_stride), piece.across.outs, f.lanes,
                      f.lanes, bias + b * f.lanes);
}

void WeightSpectralExecutor::clear_taps(const Group& group, char* planes) const {
  const RowSpectralGeometry& f = geometry_.forward;
  for (int b = 0; b < group.blocks; b++)
    for (int j = 0; j < f.parameters.transform.planes(); j++)
      std::memset(planes + b * f.block_stride + j * f.plane_stride, 0,
                  static_cast<std::size_t>(geometry_.across.count) * f.vector_bytes);
}

void WeightSpectralExecutor::sum(const WeightGradientTensors& tensors, const Group& group, std::int64_t begin,
                                 std::int64_t end, char* memory, const Sums& sums) const {
  const RowSpectralGeometry& f = geometry_.forward;
  const jit::RowTransform& t = f.parameters.transform;
  const Scratch own = scratch(memory);
  bool any = false;  // tile
  int summed = 0;    // pieces in the planes
  for (std::int64_t i = begin; i < end; i++) {
    const Piece p = piece(i);
    const bool meets = p.along.ins > 0 && p.across.ins > 0;
    if (meets || tensors.dbias) transform(dy_, p, true, tensors.dy, group, own.dy, own.window);
    if (tensors.dbias) add_bias(p, group, own.dy, sums.bias);
    if (!meets) continue;
    transform(src_, p, false, tensors.src, group, own.src, own.window);
    if (summed == 0 && geometry_.together > 1) clear_taps(group, own.taps);
    if (i + 1 == end) scatter_.expect(group.channel, group.channels, tensors);
    for (int b = 0; b < group.blocks; b++)
      columns_[p.across_run](own.src + b * f.block_stride, own.taps + b * f.block_stride,
                             own.dy + b * f.block_stride, t.reals(), t.pairs(), own.columns);
    if (++summed < geometry_.together) continue;
    come_back(group, any, own.taps, sums.tiles);
    any = true;
    summed = 0;
  }
  if (summed > 0) come_back(group, any, own.taps, sums.tiles);
  if (summed == 0 && !any) std::fill_n(sums.tiles, geometry_.tile_floats() * group.blocks, 0.0f);
}

void WeightSpectralExecutor::come_back(const Group& group, bool add, const char* planes, float* tile) const {
  (add ? further_ : first_)(planes, tile, zeros_.data(), tile, geometry_.across.count, group.blocks);
}

std::size_t WeightSpectralExecutor::planes_bytes() const {
  return core::round_up(geometry_.forward.planes_bytes(), core::alignment);
}

std::size_t WeightSpectralExecutor::window_bytes() const {
  return core::round_up(geometry_.forward.buffer_bytes(), core::alignment);
}

WeightSpectralExecutor::Scratch WeightSpectralExecutor::scratch(char* memory) const {
  const std::size_t planes = planes_bytes();
  char* const window = memory + 3 * planes;
  return {memory, memory + planes, memory + 2 * planes, reinterpret_cast<float*>(window),
          window + window_bytes()};
}

std::size_t WeightSpectralExecutor::scratch_bytes() const {
  return 3 * planes_bytes() + window_bytes() + column_scratch_;
}

std::size_t WeightSpectralExecutor::prepared_bytes() const {
  std::size_t bytes = zeros_.size() * sizeof(float);
  for (const auto& code : code_) bytes += code->bytes().size();
  return bytes;
}

}  // namespace replk::depthwise
