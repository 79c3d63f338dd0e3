#include "depthwise/row_spectral/row_spectral.hpp"

namespace replk::depthwise {
namespace {

/// Outputs in registers: what leaves room for the weights between them, and one tile fewer where that is
/// possible.
std::vector<int> tile_rows(int outputs, int levels, Isa isa) {
  if (isa != Isa::avx512) return {10};
  const int fewer = (outputs + 15) / 16 - 1;
  if (levels > 0 || fewer < 1 || (outputs + fewer - 1) / fewer > 20) return {16};
  return {16, 20};
}

class RowSpectral final : public SpectralAlgorithm {
 public:
  std::string_view name() const override { return "row-spectral"; }
  int complexity() const override { return 5; }

 private:
  bool read_columns(const Tiling& t, RowSpectralParameters& p) const override {
    p.rows = t.number("rows", 0);
    p.karatsuba = t.number("karatsuba", -1);
    const int gauss = t.number("gauss", -1);
    p.gauss = gauss == 1;
    return p.rows >= 1 && p.rows <= 28 && p.karatsuba >= 0 && p.karatsuba <= 3 && (gauss == 0 || gauss == 1);
  }

  void add_columns(std::vector<Candidate>& found, const Request& request,
                   RowSpectralParameters p) const override {
    const RowSpectralGeometry base(request, p);
    for (const int across : segment_sizes(base.across.output, base.across.taps))
      for (const int levels : {0, 1, 2, 3}) {
        if (levels > 0 && (base.across.stride != 1 || base.across_taps.size() < 7)) continue;
        for (const bool gauss : {true, false}) {
          if (!gauss && (levels > 0 || base.across_taps.size() > 5)) continue;
          for (const int blocks : block_counts(request)) {
            p.segment_across = across;
            p.karatsuba = levels;
            p.gauss = gauss;
            p.blocks = blocks;
            for (const int rows : tile_rows(across > 0 ? across : base.across.output, levels, base.isa)) {
              p.rows = rows;
              add_candidate(found, request, p);
            }
          }
        }
      }
  }
};

}  // namespace

const SpectralAlgorithm& row_spectral_algorithm() {
  static const RowSpectral instance;
  return instance;
}

}  // namespace replk::depthwise
