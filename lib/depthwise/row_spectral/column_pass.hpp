// The second pass of a convolution by transforms: what takes each frequency of the rows along the other axis.
#pragma once
#include <cstddef>
#include <cstdint>
#include <memory>
#include <vector>

#include "depthwise/cost/spectral_cost.hpp"
#include "depthwise/problem/segments.hpp"
#include "depthwise/tiling.hpp"
#include "jit/x64/code.hpp"

namespace replk::depthwise {

struct RowSpectralGeometry;
struct RowSpectralParameters;

/// The code of a column pass, for all segments of a run.
class ColumnCode {
 public:
  virtual ~ColumnCode() = default;
  /// Multiplies `reals` real planes, then `pairs` pairs of planes, with their packed weights. Planes that are
  /// written may lie where planes that were read two planes before lay. scratch: scratch_bytes() of it,
  /// 64-byte aligned.
  virtual void run(const char* in, char* out, const void* weights, std::int64_t reals, std::int64_t pairs,
                   void* scratch) const = 0;
  virtual std::size_t scratch_bytes() const = 0;
  /// Of the code, of which each piece is listed once.
  virtual std::vector<const jit::Code*> code() const = 0;
};

/// A form of the pass, and its parameters; the rest is said by the geometry that has it. The few planes that
/// are their own pair are Toeplitz products in all forms (RowSpectralGeometry::toeplitz). Immutable.
class ColumnPass {
 public:
  virtual ~ColumnPass() = default;
  /// Sets the algorithm's name, and adds the fields of the pass.
  virtual void name(Tiling& tiling) const = 0;
  virtual void add_fields(const RowSpectralParameters& parameters, Tiling& tiling) const = 0;
  virtual bool feasible(const RowSpectralGeometry& geometry) const = 0;
  /// Of Karatsuba's splitting, in Toeplitz products.
  virtual int levels(const RowSpectralGeometry& geometry) const = 0;
  /// Whether a pair's packed weights are those of its taps, one after the other: then a kernel that is this
  /// one's turn can read them backwards, and taps can be found again.
  virtual bool packs_taps() const = 0;
  /// Floats of a pair's packed weights, of a block of channels.
  virtual std::int64_t pair_floats(const RowSpectralGeometry& geometry) const = 0;
  /// jit::WeightTransform of a pair's taps to what is packed instead of them; null where taps are.
  virtual std::shared_ptr<const jit::Code> weights_code(const RowSpectralGeometry& geometry) const = 0;
  virtual std::unique_ptr<ColumnCode> code(const RowSpectralGeometry& geometry,
                                           const Segment& segment) const = 0;
  /// What a pair of planes takes, once.
  virtual SpectralCounts::Columns pair(const RowSpectralGeometry& geometry, const Segment& segment) const = 0;
};

}  // namespace replk::depthwise
