#include "depthwise/spectral/spectral.hpp"

#include <algorithm>
#include <utility>

#include "depthwise/spectral/transformed_columns.hpp"

namespace replk::depthwise {
namespace {

/// Columns of fewer taps, of a kernel that is no stripe, are not even predicted: Toeplitz products take far
/// less. In a stripe the rows take most of the time, with either.
constexpr int least_taps = 7, stripe = 3;  // a stripe is at least so many times that long

/// The best splits of a column's length.
std::vector<std::shared_ptr<const ColumnPass>> column_splits(const RowSpectralGeometry& cut_across, int n,
                                                             const Machine& m) {
  std::vector<std::pair<double, std::shared_ptr<const ColumnPass>>> ranked;
  for (int r = 2; r <= 16; r++) {
    if (n % r != 0 || n / r < 2 || n / r > 28) continue;
    auto columns = std::make_shared<const TransformedColumns>(n, jit::Factors{r, n / r});
    const double cost = cycles(m, columns->pair(cut_across, cut_across.across_segments[0]).each);
    ranked.emplace_back(cost, std::move(columns));
  }
  std::stable_sort(ranked.begin(), ranked.end(),
                   [](const auto& a, const auto& b) { return a.first < b.first; });
  std::vector<std::shared_ptr<const ColumnPass>> best;
  for (const auto& [cost, columns] : ranked)
    if (best.size() < 2 && cost < 1.1 * ranked[0].first) best.push_back(columns);
  return best;
}

class Spectral final : public SpectralAlgorithm {
 public:
  std::string_view name() const override { return "spectral"; }
  int complexity() const override { return 6; }

 private:
  bool read_columns(const Tiling& tiling, RowSpectralParameters& p) const override {
    p.columns = TransformedColumns::read(tiling);
    return p.columns != nullptr;
  }

  void add_columns(std::vector<Candidate>& found, const Request& request,
                   RowSpectralParameters p) const override {
    const RowSpectralGeometry base(request, p);
    const int taps = static_cast<int>(base.across_taps.size());
    if (taps < least_taps && base.along.taps < stripe * least_taps) return;
    for (const int across : segment_sizes(base.across.output, base.across.taps)) {
      p.segment_across = across;
      const RowSpectralGeometry cut_across(request, p);
      for (const int n : good_lengths(cut_across.across_segments.least_length())) {
        if (n > 144) continue;
        for (const auto& columns : column_splits(cut_across, n, machine(request.features))) {
          p.columns = columns;
          for (const int blocks : block_counts(request)) {
            p.blocks = blocks;
            add_candidate(found, request, p);
          }
        }
      }
    }
  }
};

}  // namespace

const SpectralAlgorithm& spectral_algorithm() {
  static const Spectral instance;
  return instance;
}

}  // namespace replk::depthwise
