#include "depthwise/row_spectral.hpp"

#include <algorithm>
#include <map>
#include <mutex>

#include "depthwise/row_spectral_executor.hpp"

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

// Cycles of a pass from its counts, on the machine that the table of docs/algorithms.md was measured on (Zen
// 3): the front end sustains 3.2 instructions a cycle in column code, 2.4 in row code, whose operands come
// from farther away.
double row_cycles(const jit::Counts& c) {
  return std::max(c.instructions / 2.4, c.adds / 2.0);
}
double column_cycles(const jit::Counts& c) {
  return std::max({c.multiplies / 1.95, c.instructions / 3.2, c.adds / 1.8});
}

/// The sum of all segments' costs. Neighbours inside a map are alike, and a map of 65,536 pixels has a
/// thousand of them: of each run of equal ones the cost is found once.
template <class Cost>
double sum_of(const std::vector<Segment>& segments, const Cost& cost) {
  double sum = 0, last = 0;
  const Segment* before = nullptr;
  for (const Segment& s : segments) {
    if (!before || s.first != before->first || s.ins != before->ins || s.outs != before->outs) last = cost(s);
    sum += last;
    before = &s;
  }
  return sum;
}

class Costs {
 public:
  /// Cycles of both row passes of a pixel row, for the segments of an axis.
  double rows(const RowSpectralGeometry& g) {
    const std::vector<int> signs(g.parameters.transform.planes(), 1);
    return sum_of(g.along_segments, [&](const Segment& s) {
      const jit::RowForwardSpec forward = g.forward(s, true);
      const jit::RowInverseSpec inverse = g.inverse(s, true, signs);
      return remember(forward.transform.text() + std::to_string(forward.first) + "+" + std::to_string(s.ins) +
                          "," + std::to_string(s.outs) + "*" + std::to_string(inverse.step) +
                          std::to_string(g.lanes),
                      [&] { return row_cycles(jit::count(forward)) + row_cycles(jit::count(inverse)); });
    });
  }

  /// Cycles of the forward pass alone.
  double forward(const RowSpectralGeometry& g, const Segment& segment) {
    const jit::RowForwardSpec spec = g.forward(segment, true);
    return remember("f" + spec.transform.text() + std::to_string(spec.first) + "+" +
                        std::to_string(spec.count) + "/" + std::to_string(g.lanes),
                    [&] { return row_cycles(jit::count(spec)); });
  }

  double columns(const RowSpectralGeometry& g) {
    return sum_of(g.across_segments, [&](const Segment& s) {
      jit::ToeplitzSpec spec = g.toeplitz(s);
      spec.plane_stride = 0;  // changes no count
      // A level's dependent sums delay small products, which have nothing else to do meanwhile.
      const double delay = spec.karatsuba > 0 ? 1 + 3.0 * spec.karatsuba / std::max(spec.outputs, 1) : 1;
      const double weights = 4.0 * g.lanes * static_cast<double>(spec.taps.size()) / 82;
      const double real = remember("r" + spec.text(), [&] { return column_cycles(jit::count_real(spec)); });
      const double cycles = g.parameters.transform.reals() * (real * delay + weights);
      if (g.parameters.two_dimensional())
        return cycles + g.parameters.transform.pairs() * fft(g.column_fft(s));
      const double pair = remember("p" + spec.text(), [&] { return column_cycles(jit::count_pair(spec)); });
      return cycles + g.parameters.transform.pairs() * (pair * delay + 2 * weights);
    });
  }

  /// Programs beyond the micro-operation cache run slower.
  double fft(jit::ColumnFftSpec spec) {
    spec.plane_stride = 0;
    const double cycles = remember(spec.text(), [&] {
      const jit::Counts c = jit::count_pair(spec);
      return std::max(c.instructions / (spec.n < 56 ? 3.2 : 2.75), c.adds / 2.0);
    });
    return cycles + 2.0 * spec.n * vector_floats(spec.isa) * 4 / 82;
  }

 private:
  template <class Compute>
  double remember(const std::string& key, const Compute& compute) {
    {
      std::lock_guard lock(mutex_);
      const auto found = known_.find(key);
      if (found != known_.end()) return found->second;
    }
    const double value = compute();
    std::lock_guard lock(mutex_);
    if (known_.size() > 20000) known_.clear();
    known_[key] = value;
    return value;
  }
  std::mutex mutex_;
  std::map<std::string, double> known_;
};

Costs& costs() {
  static Costs* instance = new Costs;
  return *instance;
}

double predicted_seconds(const RowSpectralGeometry& g, int threads) {
  double rows = 0;
  for (const Segment& s : g.across_segments) rows += (s.ins + s.outs) / 2.0;
  const double row_cost = costs().rows(g) * rows;
  const double column_cost = costs().columns(g) * static_cast<double>(g.along_segments.size());
  double cycles = (row_cost + column_cost) * static_cast<double>(g.problem.batch) * g.all_blocks();
  // Moving a vector each way and starting on a group; or fetching it twice.
  const Problem& p = g.problem;
  const double vectors =
      static_cast<double>(p.height) * p.width + static_cast<double>(p.out_height()) * p.out_width();
  const double rows_cycles = g.buffered()         ? 2.5 * vectors + 400.0 / g.parameters.blocks
                             : g.pixels_collide() ? 6 * vectors
                                                  : 0;
  cycles += rows_cycles * static_cast<double>(p.batch) * g.all_blocks();
  // Scratch shares the L2 with the tensors and weights that stream through it.
  const double share = static_cast<double>(g.planes_bytes()) / static_cast<double>(core::cpu().l2_bytes);
  cycles *= share > 0.8 ? std::min(1 + 0.15 * share, 4.0) : share > 0.4 ? 1.05 : 1;
  // Longer runs of a pixel's channels at a time cost fewer line and page changes. In NCHW the pixels are the
  // runs.
  const int bytes = g.parameters.blocks * g.lanes * static_cast<int>(size_of(g.problem.type));
  if (g.problem.layout == Layout::nhwc)
    cycles *= bytes < 64 ? 1.35 : bytes < 128 ? 1.06 : bytes < 256 ? 1.01 : 1;
  return cycles / 3.0e9 / threads;
}

class RowSpectral final : public Algorithm {
 public:
  explicit RowSpectral(bool two_dimensional) : two_dimensional_(two_dimensional) {}
  std::string_view name() const override { return two_dimensional_ ? "spectral" : "row-spectral"; }
  bool exact() const override { return false; }
  int complexity() const override { return two_dimensional_ ? 6 : 5; }

  bool legal(const Problem& problem, const Kernel& geometry, const Tiling& tiling, Isa isa) const override {
    if (isa == Isa::portable || problem.numerics == Numerics::exact) return false;
    const auto parameters = RowSpectralParameters::parse(tiling);
    return parameters && parameters->two_dimensional() == two_dimensional_ &&
           RowSpectralGeometry(problem, geometry, *parameters, isa).feasible();
  }

  std::vector<Candidate> candidates(const Problem& problem, const Kernel& geometry, Isa isa,
                                    int threads) const override {
    std::vector<Candidate> found;
    if (isa == Isa::portable || problem.numerics == Numerics::exact) return found;
    // The transform goes along the longer side of the kernel.
    add_axis(found, problem, geometry, isa, threads, geometry.height > geometry.width);
    std::stable_sort(found.begin(), found.end(), [](const Candidate& a, const Candidate& b) {
      return a.predicted_seconds < b.predicted_seconds;
    });
    constexpr std::size_t most = 24;
    if (found.size() > most) found.resize(most);
    return found;
  }

  std::unique_ptr<Executor> prepare(const Problem& problem, const Kernel& kernel, const Tiling& tiling,
                                    Isa isa) const override {
    return std::make_unique<RowSpectralExecutor>(
        RowSpectralGeometry(problem, kernel, *RowSpectralParameters::parse(tiling), isa), kernel);
  }

 private:
  void add_axis(std::vector<Candidate>& found, const Problem& problem, const Kernel& geometry, Isa isa,
                int threads, bool along_h) const {
    RowSpectralParameters p;
    p.along_h = along_h;
    const RowSpectralGeometry whole(problem, geometry, p, isa);
    for (const int along : segment_sizes(whole.along.outputs, whole.along.taps)) {
      p.segment_along = along;
      const RowSpectralGeometry cut_along(problem, geometry, p, isa);
      for (const int n : good_lengths(least_length(cut_along.along, cut_along.along_segments)))
        for (const jit::RowTransform& transform : transforms(cut_along, n)) {
          p.transform = transform;
          if (two_dimensional_)
            add_transforms(found, problem, geometry, isa, threads, p);
          else
            add_columns(found, problem, geometry, isa, threads, p);
        }
    }
  }

  /// The best splits of a length by predicted cost.
  static std::vector<jit::RowTransform> transforms(const RowSpectralGeometry& cut_along, int n) {
    std::vector<std::pair<double, jit::RowTransform>> ranked;
    const Segment& longest =
        *std::max_element(cut_along.along_segments.begin(), cut_along.along_segments.end(),
                          [](const Segment& a, const Segment& b) { return a.ins < b.ins; });
    for (const jit::Factors& factors : jit::factor_choices(n)) {
      if (n > 48 && factors.size() > 2) continue;  // three stages never came first there
      RowSpectralGeometry g = cut_along;
      g.parameters.transform.n = n;
      g.parameters.transform.factors = factors;
      ranked.emplace_back(costs().forward(g, longest), g.parameters.transform);
    }
    std::stable_sort(ranked.begin(), ranked.end(),
                     [](const auto& a, const auto& b) { return a.first < b.first; });
    std::vector<jit::RowTransform> best;
    for (const auto& [cost, transform] : ranked)
      if (best.size() < 2 && cost < 1.15 * ranked[0].first) best.push_back(transform);
    return best;
  }

  static void add_columns(std::vector<Candidate>& found, const Problem& problem, const Kernel& geometry,
                          Isa isa, int threads, RowSpectralParameters p) {
    const RowSpectralGeometry base(problem, geometry, p, isa);
    for (const int across : segment_sizes(base.across.outputs, base.across.taps))
      for (const int levels : {0, 1, 2, 3}) {
        if (levels > 0 && (base.across.stride != 1 || base.across_taps.size() < 7)) continue;
        for (const bool gauss : {true, false}) {
          if (!gauss && (levels > 0 || base.across_taps.size() > 5)) continue;
          for (const int blocks : block_counts(problem, isa)) {
            p.segment_across = across;
            p.karatsuba = levels;
            p.gauss = gauss;
            p.blocks = blocks;
            p.rows = isa == Isa::avx512 ? 16 : 10;
            add_candidate(found, problem, geometry, isa, threads, p);
          }
        }
      }
  }

  static void add_transforms(std::vector<Candidate>& found, const Problem& problem, const Kernel& geometry,
                             Isa isa, int threads, RowSpectralParameters p) {
    const RowSpectralGeometry base(problem, geometry, p, isa);
    if (base.across_taps.size() < 7) return;
    for (const int across : segment_sizes(base.across.outputs, base.across.taps)) {
      p.segment_across = across;
      const RowSpectralGeometry cut_across(problem, geometry, p, isa);
      for (const int n : good_lengths(least_length(cut_across.across, cut_across.across_segments))) {
        if (n > 144) continue;
        for (const jit::Factors& factors : column_splits(cut_across, n)) {
          p.columns = n;
          p.column_factors = factors;
          for (const int blocks : block_counts(problem, isa)) {
            p.blocks = blocks;
            add_candidate(found, problem, geometry, isa, threads, p);
          }
        }
      }
    }
  }

  static void add_candidate(std::vector<Candidate>& found, const Problem& problem, const Kernel& geometry,
                            Isa isa, int threads, RowSpectralParameters p) {
    for (const bool packed : {false, true}) {
      p.packed = packed;
      const RowSpectralGeometry g(problem, geometry, p, isa);
      if (packed && !g.pixels_collide()) continue;
      if (g.feasible()) found.push_back({p.tiling(), predicted_seconds(g, threads)});
    }
  }

  /// The two best splits of a column's length.
  static std::vector<jit::Factors> column_splits(const RowSpectralGeometry& cut_across, int n) {
    std::vector<std::pair<double, jit::Factors>> ranked;
    for (int r = 2; r <= 16; r++) {
      if (n % r != 0 || n / r < 2 || n / r > 28) continue;
      const jit::Factors factors{r, n / r};
      RowSpectralGeometry g = cut_across;
      g.parameters.columns = n;
      g.parameters.column_factors = factors;
      ranked.emplace_back(costs().fft(g.column_fft(g.across_segments[0])), factors);
    }
    std::stable_sort(ranked.begin(), ranked.end(),
                     [](const auto& a, const auto& b) { return a.first < b.first; });
    std::vector<jit::Factors> best;
    for (const auto& [cost, factors] : ranked)
      if (best.size() < 2 && cost < 1.1 * ranked[0].first) best.push_back(factors);
    return best;
  }

  static std::vector<int> block_counts(const Problem& problem, Isa isa) {
    if (problem.layout == Layout::nchw) return {1, 4};  // more only share the cost of starting
    return isa == Isa::avx512 ? std::vector<int>{1, 2, 4} : std::vector<int>{1, 2, 4, 8};
  }

  /// The whole axis, where code and scratch allow it, and segments for larger ones.
  static std::vector<int> segment_sizes(int outputs, int taps) {
    std::vector<int> sizes;
    if (outputs <= 128) sizes.push_back(0);
    if (outputs > 96)
      for (const int size : {48, 96})
        if (size < outputs && 2 * size >= taps) sizes.push_back(size);
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
