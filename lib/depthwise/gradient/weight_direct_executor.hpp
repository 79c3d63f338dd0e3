// A prepared direct weight gradient.
#pragma once
#include <map>
#include <memory>
#include <optional>
#include <utility>
#include <vector>

#include "depthwise/gradient/weight_sliced.hpp"
#include "depthwise/problem/rows.hpp"
#include "depthwise/tiling.hpp"
#include "jit/kernels/weight_direct.hpp"
#include "jit/x64/code.hpp"

namespace replk::depthwise {

/// A tiling's parameters, each in its range.
struct WeightDirectParameters {
  int rows = 1, columns = 1;  // of taps in registers
  bool packed = false;        // rows are copied even where they need not be
  Tiling tiling() const;
  static std::optional<WeightDirectParameters> parse(const Tiling& tiling);
};

/// A problem and a tiling, all but code.
struct WeightDirectGeometry {
  WeightDirectGeometry(const Problem& problem, const Kernel& kernel, const WeightDirectParameters& parameters,
                       Isa isa);

  Problem problem;
  WeightDirectParameters parameters;
  Isa isa;
  Axis vertical, horizontal;  // of the merged kernel
  Lags rows, columns;         // its taps that are computed
  int lanes, vector_bytes;

  bool needs_packing() const;
  bool packs(bool whole) const { return parameters.packed || needs_packing() || !whole; }
  int row_groups() const { return (rows.count + parameters.rows - 1) / parameters.rows; }
  int column_groups() const { return (columns.count + parameters.columns - 1) / parameters.columns; }
  /// Some rows of a group of columns.
  jit::WeightDirectSpec spec(int rows, int column_group, bool packed) const;
  /// Output rows whose sums fp32 adds up; those that are packed together, a multiple of them; and the input
  /// rows that these need.
  int band() const;
  int region() const;
  Range inputs_of(int begin, int end) const;
  std::int64_t tile_floats() const { return std::int64_t{rows.count} * columns.count * lanes; }
  std::size_t packed_bytes(int output_rows) const;
  bool feasible() const;
};

class WeightDirectExecutor final : public SlicedWeightExecutor {
 public:
  WeightDirectExecutor(const WeightDirectGeometry& geometry, const Kernel& kernel);
  std::size_t prepared_bytes() const override;

 private:
  /// Where a region's rows lie.
  struct Region {
    const char *x, *dy;                    // rows 0 of the map, packed or not
    std::int64_t x_row, dy_row, dy_pixel;  // bytes
    bool packed;
  };
  std::size_t scratch_bytes() const override;
  void sum(const WeightGradientTensors& tensors, const Group& group, std::int64_t begin, std::int64_t end,
           char* scratch, const Sums& sums) const override;
  Region region(const WeightGradientTensors& tensors, const Group& group, std::int64_t image, int begin,
                int end, char* buffer) const;
  void add_band(const Region& region, int begin, int end, float* sums) const;
  void call(const Region& region, int rows, int row, int column_group, Range outputs, float* sums) const;
  Range outputs_of(int row) const;

  const WeightDirectGeometry geometry_;
  const simd::RowLayout input_, output_;
  const int band_, region_;                                                 // output rows
  std::map<std::pair<int, bool>, std::vector<jit::WeightDirect>> code_of_;  // by rows and packing: of each
                                                                            // group of columns
  std::vector<std::shared_ptr<const jit::Code>> code_;
};

}  // namespace replk::depthwise
