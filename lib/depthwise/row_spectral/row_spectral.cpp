#include "depthwise/row_spectral/row_spectral.hpp"

#include <algorithm>
#include <set>
#include <utility>

#include "depthwise/row_spectral/counts.hpp"
#include "depthwise/row_spectral/executor.hpp"
#include "jit/x64/fingerprint.hpp"

namespace replk::depthwise {
namespace {

/// Lengths of at least `least` with cheap codelets, ascending: products of small primes, at most a sixth
/// longer.
std::vector<int> good_lengths(int least) {
  std::vector<int> lengths;
  for (int n = std::max(least, 2); n <= least + std::max(4, least / 6); n++) {
    int rest = n;
    for (int p : {2, 3, 5, 7})
      while (rest % p == 0) rest /= p;
    if (rest == 1 || (rest == n && n <= 13) || (rest == 13 && n / 13 <= 8)) lengths.push_back(n);
  }
  constexpr std::size_t most = 3;
  if (lengths.size() > most) lengths.resize(most);
  return lengths;
}

class RowSpectralVariant final : public Variant {
 public:
  RowSpectralVariant(const Request& request, RowSpectralGeometry geometry)
      : geometry_(std::move(geometry)), kernel_(request.kernel), threads_(request.threads) {}
  Tiling tiling() const override { return geometry_.parameters.tiling(); }
  double predict(const Machine& machine) const override {
    return seconds(machine, spectral_counts(geometry_, threads_));
  }
  std::unique_ptr<Executor> prepare() const override {
    return std::make_unique<RowSpectralExecutor>(geometry_, kernel_);
  }
  std::unique_ptr<Executor> prepare_turned(const Executor& layer) const override {
    const auto* const spectral = dynamic_cast<const RowSpectralExecutor*>(&layer);
    return spectral ? RowSpectralExecutor::turned(geometry_, *spectral) : nullptr;
  }

 private:
  RowSpectralGeometry geometry_;
  Kernel kernel_;
  int threads_;
};

class RowSpectral final : public Algorithm {
 public:
  explicit RowSpectral(bool two_dimensional) : two_dimensional_(two_dimensional) {}
  std::string_view name() const override { return two_dimensional_ ? "spectral" : "row-spectral"; }
  bool exact() const override { return false; }
  int complexity() const override { return two_dimensional_ ? 6 : 5; }
  std::span<const std::int32_t> constants() const override { return jit::values_of<RowSpectralConstants>; }

 private:
  std::unique_ptr<Variant> read_fields(const Request& request, const Tiling& tiling) const override {
    const auto parameters = RowSpectralParameters::parse(tiling);
    if (request.isa() == Isa::portable || !parameters) return nullptr;
    RowSpectralGeometry geometry(request, *parameters);
    if (!geometry.feasible()) return nullptr;
    return std::make_unique<RowSpectralVariant>(request, std::move(geometry));
  }

  std::vector<Candidate> every_candidate(const Request& request) const override {
    std::vector<Candidate> found;
    if (request.isa() == Isa::portable) return found;
    // The transform goes along the longer side of the kernel.
    add_axis(found, request, request.kernel.height > request.kernel.width);
    return found;
  }

  /// The best of each way to bring rows in stays as well: which is faster depends most on the machine.
  void keep_best(std::vector<Candidate>& sorted, std::size_t most) const override {
    std::size_t kept = std::min(most, sorted.size());
    std::set<std::pair<int, int>> ways;
    for (std::size_t i = 0; i < sorted.size(); i++) {
      const bool first =
          ways.emplace(sorted[i].tiling.number("packed", 0), sorted[i].tiling.number("ahead", 0)).second;
      if (i >= most && first) sorted[kept++] = sorted[i];
    }
    sorted.resize(kept);
  }

  void add_axis(std::vector<Candidate>& found, const Request& request, bool along_h) const {
    RowSpectralParameters p;
    p.along_h = along_h;
    const RowSpectralGeometry whole(request, p);
    for (const int along : segment_sizes(whole.along.output, whole.along.taps)) {
      p.segment_along = along;
      const RowSpectralGeometry cut_along(request, p);
      for (const int n : good_lengths(cut_along.along_segments.least_length()))
        for (const jit::RowTransform& transform : transforms(cut_along, n)) {
          p.transform = transform;
          if (two_dimensional_)
            add_transforms(found, request, p);
          else
            add_columns(found, request, p);
        }
    }
  }

  /// The best splits of a length by predicted cost.
  static std::vector<jit::RowTransform> transforms(const RowSpectralGeometry& cut_along, int n) {
    std::vector<std::pair<double, jit::RowTransform>> ranked;
    const std::vector<Segments::Run>& runs = cut_along.along_segments.runs();
    const Segment longest =
        std::max_element(runs.begin(), runs.end(), [](const Segments::Run& a, const Segments::Run& b) {
          return a.segment.ins < b.segment.ins;
        })->segment;
    for (const jit::Factors& factors : jit::factor_choices(n)) {
      if (n > 48 && factors.size() > 2) continue;  // three stages never came first there
      RowSpectralGeometry g = cut_along;
      g.parameters.transform.n = n;
      g.parameters.transform.factors = factors;
      ranked.emplace_back(known_counts().forward(g, longest).instructions, g.parameters.transform);
    }
    std::stable_sort(ranked.begin(), ranked.end(),
                     [](const auto& a, const auto& b) { return a.first < b.first; });
    std::vector<jit::RowTransform> best;
    for (const auto& [cost, transform] : ranked)
      if (best.size() < 2 && cost < 1.15 * ranked[0].first) best.push_back(transform);
    return best;
  }

  static void add_columns(std::vector<Candidate>& found, const Request& request, RowSpectralParameters p) {
    const RowSpectralGeometry base(request, p);
    for (const int across : segment_sizes(base.across.output, base.across.taps))
      for (const int levels : {0, 1, 2, 3}) {
        if (levels > 0 && (base.across.stride != 1 || base.across_taps.size() < (levels == 1 ? 7u : 12u)))
          continue;
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

  /// Outputs in registers: what leaves room for the weights between them, and one tile fewer where that is
  /// possible.
  static std::vector<int> tile_rows(int outputs, int levels, Isa isa) {
    if (isa != Isa::avx512) return {10};
    const int fewer = (outputs + 15) / 16 - 1;
    if (levels > 0 || fewer < 1 || (outputs + fewer - 1) / fewer > 20) return {16};
    return {16, 20};
  }

  static void add_transforms(std::vector<Candidate>& found, const Request& request, RowSpectralParameters p) {
    const RowSpectralGeometry base(request, p);
    if (base.across_taps.size() < 7) return;
    for (const int across : segment_sizes(base.across.output, base.across.taps)) {
      p.segment_across = across;
      const RowSpectralGeometry cut_across(request, p);
      for (const int n : good_lengths(cut_across.across_segments.least_length())) {
        if (n > 144) continue;
        for (const jit::Factors& factors : column_splits(cut_across, n, machine(request.features))) {
          p.columns = n;
          p.column_factors = factors;
          for (const int blocks : block_counts(request)) {
            p.blocks = blocks;
            add_candidate(found, request, p);
          }
        }
      }
    }
  }

  static void add_candidate(std::vector<Candidate>& found, const Request& request, RowSpectralParameters p) {
    enum { as_they_are, ahead, packed };
    for (const int rows : {as_they_are, ahead, packed}) {
      p.ahead = rows == ahead;
      p.packed = rows == packed;
      const RowSpectralGeometry g(request, p);
      if (p.packed && !g.pixels_collide()) continue;
      if (g.feasible())
        found.push_back(
            {p.tiling(), seconds(machine(request.features), spectral_counts(g, request.threads))});
    }
  }

  /// The two best splits of a column's length.
  static std::vector<jit::Factors> column_splits(const RowSpectralGeometry& cut_across, int n,
                                                 const Machine& m) {
    std::vector<std::pair<double, jit::Factors>> ranked;
    for (int r = 2; r <= 16; r++) {
      if (n % r != 0 || n / r < 2 || n / r > 28) continue;
      const jit::Factors factors{r, n / r};
      RowSpectralGeometry g = cut_across;
      g.parameters.columns = n;
      g.parameters.column_factors = factors;
      const jit::Counts pair = known_counts().pair(g.column_fft(g.across_segments[0]));
      ranked.emplace_back(cycles(m, pair), factors);
    }
    std::stable_sort(ranked.begin(), ranked.end(),
                     [](const auto& a, const auto& b) { return a.first < b.first; });
    std::vector<jit::Factors> best;
    for (const auto& [cost, factors] : ranked)
      if (best.size() < 2 && cost < 1.1 * ranked[0].first) best.push_back(factors);
    return best;
  }

  static std::vector<int> block_counts(const Request& request) {
    if (request.problem.layout == Layout::nchw) return {1, 4};  // more only share the cost of starting
    return request.isa() == Isa::avx512 ? std::vector<int>{1, 2, 4} : std::vector<int>{1, 2, 4, 8};
  }

  /// The whole axis, where code and scratch allow it, and equal parts of about so many outputs: those of a
  /// large map, and those of a smaller one whose rows are read twice for few taps. Their planes leave the L2
  /// to the tensors.
  static std::vector<int> segment_sizes(int outputs, int taps) {
    std::vector<int> sizes;
    if (outputs <= 128) sizes.push_back(0);
    for (const int about : {24, 48, 64, 96}) {
      const int parts = (outputs + about / 2) / about, size = parts > 1 ? (outputs + parts - 1) / parts : 0;
      const bool large = outputs > 96 && about >= 48 && 2 * size >= taps, few_taps = size >= 2 * (taps - 1);
      if (parts > 1 && (large || few_taps) && std::find(sizes.begin(), sizes.end(), size) == sizes.end())
        sizes.push_back(size);
    }
    return sizes;
  }

  const bool two_dimensional_;
};

}  // namespace

const Algorithm& row_spectral_algorithm() {
  static const RowSpectral instance(false);
  return instance;
}

const Algorithm& spectral_algorithm() {
  static const RowSpectral instance(true);
  return instance;
}

}  // namespace replk::depthwise
