// How a row-spectral convolution cuts a map: which axis is transformed, into which segments, at which length.
#pragma once
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "depthwise/choose/request.hpp"
#include "depthwise/problem/segments.hpp"
#include "depthwise/row_spectral/toeplitz_columns.hpp"
#include "depthwise/tiling.hpp"
#include "jit/kernels/row_transform.hpp"
#include "jit/kernels/toeplitz.hpp"
#include "jit/kernels/weight_transform.hpp"

namespace replk::depthwise {

/// Algorithm::constants() of row-spectral and spectral.
struct RowSpectralConstants {
  std::int32_t window_bytes = 8 << 10;               // of packed rows, which stay in the L1
  std::int32_t rows_a_share = 2, pairs_a_share = 2;  // of a pass that is dealt out: rows, pairs of planes
  std::int32_t few_tasks =
      4;  // a thread: with fewer, passes are dealt out where whole tasks would leave more
  std::int32_t most_rounds = 5, of_rounds = 4;  // than so many of these rounds' time
  std::int32_t split_taps = 7;  // least of the few planes of `spectral` that Karatsuba splits,
  std::int32_t split_once = 12, split_twice = 24;  // and least outputs
  // On Zen 3 a stage a pair is fastest while all three stages fit in the micro-operation cache.
  std::int32_t short_columns = 56, short_chunk = 1, chunk = 8;
};
inline constexpr RowSpectralConstants row_spectral_constants;

/// Least outputs along a transformed axis, most of whose inputs few taps would meet (a limit of what is
/// legal): as for all outputs together, a few may all be small by chance.
inline constexpr int least_transformed = 4;

/// The parameters of a tiling, each in its range.
struct RowSpectralParameters {
  bool along_h = false;  // the transformed axis: columns of the map instead of rows
  jit::RowTransform transform;
  std::shared_ptr<const ColumnPass> columns = toeplitz_columns();
  int rows = 8, karatsuba = 0;  // of Toeplitz products: outputs in registers, levels
  bool gauss = true;
  int blocks = 2;                             // vectors of channels that share scratch
  int segment_along = 0, segment_across = 0;  // outputs a segment; 0: the whole axis
  bool packed = false;                        // rows go through a window even where they need not
  bool ahead = false;  // the next row's lines are prefetched while a row is transformed

  Tiling tiling() const;
  /// All but those of the column pass; empty where a field is missing or out of range.
  static std::optional<RowSpectralParameters> rows_of(const Tiling& tiling);
};

/// A problem and a tiling, all but weights and code.
struct RowSpectralGeometry {
  RowSpectralGeometry(const Request& request, const RowSpectralParameters& parameters);

  Problem problem;
  RowSpectralParameters parameters;
  Isa isa;
  bool native_bf16 = false;  // AVX512_BF16 rounds
  Axis along, across;
  Segments along_segments, across_segments;
  std::vector<int> across_taps;  // taps of the second axis that have support
  bool sees_every_input = true;  // of the transformed axis: strides and holes pass none over
  /// Of a kernel that is the turn of one whose packed weights it reads: how planes are signed for it. Else
  /// empty, and they are signed as is cheapest.
  std::vector<int> turned_signs;
  int shift = 0;         // local input i is input i - shift of the transform
  int column_shift = 0;  // the same along the other axis
  int lanes = 8, vector_bytes = 32;
  std::int64_t plane_stride = 0, block_stride = 0;  // bytes, of the scratch

  /// Groups of `blocks` whole vectors of channels (the last may have fewer), then the channels that are left.
  int whole_blocks() const { return problem.channels / lanes; }
  int whole_groups() const { return (whole_blocks() + parameters.blocks - 1) / parameters.blocks; }
  int tail_channels() const { return problem.channels % lanes; }
  int groups() const { return whole_groups() + (tail_channels() > 0); }
  int all_blocks() const { return whole_blocks() + (tail_channels() > 0); }

  /// Whether rows must go through a buffer of fp32 vectors, and whether they do; the left-over channels
  /// always do.
  bool needs_buffer() const;
  /// Whether the inverse row pass has the whole epilogue; else finish() does what comes behind the bias.
  bool finished() const { return !problem.epilogue.scale && problem.epilogue.activation <= Activation::relu; }
  bool buffered() const { return parameters.packed || needs_buffer(); }
  /// Whether the pixels of a row share so few sets of the L1 that a vector's neighbour in its cache line is
  /// gone before the next block reads it.
  bool pixels_collide() const;

  /// Of the input or output tensor, or of a window of it, and of the planes.
  jit::RowStrides strides(bool output, bool buffer) const;
  jit::RowForwardSpec forward(const Segment& segment, bool from_buffer) const;
  jit::RowInverseSpec inverse(const Segment& segment, bool to_buffer, const std::vector<int>& signs) const;
  jit::ToeplitzSpec toeplitz(const Segment& segment) const;
  jit::RowWeightsSpec row_weights(const std::vector<int>& signs) const;

  /// Whether the weights that another one packs, of a kernel that this one's is the turn of, serve here too.
  bool shares_weights(const RowSpectralGeometry& other) const;
  /// Whether code can be generated for it within its limits.
  bool feasible() const;
  std::size_t planes_bytes() const;  // the scratch of one group
  /// Packed weights of a block of channels: of each real plane, each pair of planes, and all.
  std::int64_t real_floats() const { return static_cast<std::int64_t>(across_taps.size()) * lanes; }
  std::int64_t pair_floats() const { return parameters.columns->pair_floats(*this); }
  std::int64_t weights_floats() const {
    return real_floats() * parameters.transform.reals() + pair_floats() * parameters.transform.pairs();
  }
  /// A buffer holds packed blocks of a part of the map, row by row of the map: `rows` rows of the transform
  /// (columns of the map with along_h) of `pixels` pixels, of `blocks` blocks at once.
  struct Window {
    int rows = 0, pixels = 0, blocks = 0;
    std::int64_t row_stride = 0, block_stride = 0;  // floats; row_stride of the map's rows
  };
  Window window(bool output) const;
  std::size_t buffer_bytes() const;  // a window, and one of the residual
};

}  // namespace replk::depthwise
