// What the direct algorithm derives from a problem and a tiling: taps, layouts, and whether they fit.
#pragma once
#include <algorithm>
#include <cstdint>
#include <optional>
#include <vector>

#include "core/cpu.hpp"
#include "depthwise/choose/request.hpp"
#include "depthwise/tiling.hpp"
#include "jit/kernels/direct.hpp"

namespace replk::depthwise {

/// The parameters of a tiling, each in its range.
struct DirectParameters {
  int rows, columns;  // the register tile of outputs
  bool ring;          // input rows are packed into a ring of those in use
  int blocks;         // of channels that a task takes through a row group together

  Tiling tiling() const;
  /// Nothing unless every field is there, no other is, and each is in its range.
  static std::optional<DirectParameters> read(const Tiling& tiling);
};

/// Algorithm::constants() of direct.
struct DirectConstants {
  std::int32_t tasks_a_thread = 4;  // wanted, before rows are not cut into bands any more
};
inline constexpr DirectConstants direct_constants;

/// Whether generated code has this epilogue; else finish() does what comes behind the bias.
inline bool direct_has(const Epilogue& e) {
  return !e.scale && e.activation <= Activation::gelu;
}

/// The kernel without the rows and columns that hold no tap at all (the holes of a dilated one).
struct DirectTaps {
  std::vector<int> rows;                   // compact row -> kernel row
  std::vector<int> columns;                // compact column -> kernel column
  std::vector<std::vector<bool>> support;  // [compact row][compact column]

  explicit DirectTaps(const Kernel& kernel);
  /// Rows with taps are multiples of it: the dilation, where branches share one.
  int row_step() const;
  bool every_column(const Kernel& kernel) const { return static_cast<int>(columns.size()) == kernel.width; }
};

/// The output rows first, first + row_step, .. and the input rows that their taps meet, as an axis without
/// holes. Its input i is row in + i * row_step of the map.
struct DirectRows {
  int first, in;
  Axis axis;
};

/// How a run is dealt out: blocks of a group, groups of an image, bands of rows of a group.
struct DirectDeal {
  int blocks, groups, bands;
};

/// A problem and a tiling, all but weights and code.
struct DirectGeometry {
  DirectGeometry(const Request& request, const DirectParameters& parameters);
  /// Another tiling of the same problem.
  void set(const DirectParameters& parameters);

  Problem problem;
  Kernel kernel;
  DirectTaps taps;
  Axis vertical;
  int row_step;  // output rows so far apart meet the same input rows: those of a dilated kernel, else all
  Isa isa;
  DirectParameters parameters;
  bool finished;  // the code has the whole epilogue
  bool native;    // the code reads and writes the tensors itself: channels-last fp32, an epilogue that it has
  int lanes, blocks, tail;  // blocks of lanes, the last of which may have only `tail` channels (0: none)
  int out_height, out_width;
  int ring_rows;                      // input rows that a row group can meet
  std::int64_t ring_row, ring_block;  // floats
  std::int64_t out_row, out_block;    // floats, of the packed output where not native

  int group_blocks() const { return std::min(parameters.blocks, blocks); }
  /// Kernel rows, of which each row_step'th counts.
  int kernel_rows() const { return (kernel.height - 1) / row_step + 1; }
  DirectRows rows_from(int first) const;  // first < row_step
  /// Of all rows_from().
  int row_groups() const;
  /// Rows are split only where images and channels alone give too few tasks, since each band packs its own
  /// halo; groups are made smaller than the tiling's only where rows do not help either, since then cache
  /// lines that lie together go to several threads.
  DirectDeal deal(std::int64_t batch, int threads) const;
  std::int64_t ring_bytes() const;
  std::int64_t out_bytes() const;

  /// Of the code for `rows` output rows at once: of whole channel vectors, or of the tail.
  jit::DirectSpec specification(int rows, bool tail) const;
  /// Whether the code stays within its limit. It depends on the register tile alone.
  bool code_fits() const;
  /// All but the code's size, which takes longer to find.
  bool memory_fits() const;
};

}  // namespace replk::depthwise
