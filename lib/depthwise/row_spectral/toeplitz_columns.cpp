#include "depthwise/row_spectral/toeplitz_columns.hpp"

#include "depthwise/row_spectral/counts.hpp"
#include "depthwise/row_spectral/geometry.hpp"

namespace replk::depthwise {
namespace {

class ToeplitzColumns final : public ColumnPass {
 public:
  void name(Tiling& tiling) const override { tiling.algorithm = "row-spectral"; }
  void add_fields(const RowSpectralParameters& p, Tiling& tiling) const override {
    tiling.set("rows", p.rows).set("karatsuba", p.karatsuba).set("gauss", static_cast<int>(p.gauss));
  }
  bool feasible(const RowSpectralGeometry&) const override { return true; }
  int levels(const RowSpectralGeometry& g) const override { return g.parameters.karatsuba; }
  bool packs_taps() const override { return true; }
  std::int64_t pair_floats(const RowSpectralGeometry& g) const override { return 2 * g.real_floats(); }
  std::shared_ptr<const jit::Code> weights_code(const RowSpectralGeometry&) const override { return nullptr; }
  std::unique_ptr<ColumnCode> code(const RowSpectralGeometry& g, const Segment& segment) const override {
    return std::make_unique<ToeplitzCode>(g.toeplitz(segment));
  }
  SpectralCounts::Columns pair(const RowSpectralGeometry& g, const Segment& segment) const override {
    const jit::ToeplitzSpec spec = g.toeplitz(segment);
    return {known_counts().pair(spec), 1, spec.karatsuba};
  }
};

}  // namespace

std::shared_ptr<const ColumnPass> toeplitz_columns() {
  static const auto instance = std::make_shared<const ToeplitzColumns>();
  return instance;
}

ToeplitzCode::ToeplitzCode(const jit::ToeplitzSpec& spec)
    : code_(jit::get_code(spec.text(), [&] { return jit::generate(spec); })),
      scratch_bytes_(jit::scratch_bytes(spec)) {}

void ToeplitzCode::run(const char* in, char* out, const void* weights, std::int64_t reals, std::int64_t pairs,
                       void* scratch) const {
  code_->entry<jit::Toeplitz>()(in, out, weights, reals, pairs, scratch);
}

}  // namespace replk::depthwise
