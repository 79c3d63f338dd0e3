#include "depthwise/row_spectral/row_spectral.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <map>
#include <mutex>
#include <numeric>
#include <set>

#include "depthwise/row_spectral/executor.hpp"

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

/// What a machine's cycles are made of. Intel's come from a fit over 73 shapes and 6,000 tilings on a core of
/// an Emerald Rapids (its picks without measuring took 1.04 times the best on AVX-512, 1.03 on AVX2); the
/// others from a Zen 3.
struct Machine {
  double pipes;                             // additions and multiply-adds a cycle together
  double row;                               // of an instruction of a row pass, times four
  double plane_in_l2;                       // of a line of planes that goes to the L2 and back
  double plane_beyond;                      // the same where planes crowd the L2
  std::array<double, 3> column;             // over the ideal of the column pass, by Karatsuba's levels
  double transform;                         // the same where columns are transformed
  double line;                              // of a line of the tensors from beyond the L2
  double colliding, ahead, packed, across;  // more for it: pixels in few sets of the caches, called up ahead
                                            // (less), through a window, along the map's height
  std::array<double, 4> run;  // all, by bytes of a pixel that are used at once: 32, 64, 128, more
};

const Machine& machine(Isa isa) {
  static constexpr Machine intel_avx512{.pipes = 2,
                                        .row = 0.436,
                                        .plane_in_l2 = 1.84,
                                        .plane_beyond = 17.4,
                                        .column = {1.22, 1.37, 1.39},
                                        .transform = 1.57,
                                        .line = 5.18,
                                        .colliding = 1.04,
                                        .ahead = 1.20,
                                        .packed = 3.76,
                                        .across = 0.64,
                                        .run = {1.94, 1.28, 1, 0.985}};
  static constexpr Machine intel_avx2{.pipes = 2,
                                      .row = 0.415,
                                      .plane_in_l2 = 3.34,
                                      .plane_beyond = 20.5,
                                      .column = {1.0, 0.87, 0.89},
                                      .transform = 0.92,
                                      .line = 6.01,
                                      .colliding = 2.34,
                                      .ahead = 1.45,
                                      .packed = 1.57,
                                      .across = 4.07,
                                      .run = {1.58, 1.26, 1, 0.97}};
  static constexpr Machine zen3{.pipes = 4,
                                .row = 1.67,
                                .plane_in_l2 = 0.2,
                                .plane_beyond = 4,
                                .column = {1.25, 1.28, 1.35},
                                .transform = 1.4,
                                .line = 1,
                                .colliding = 0.5,
                                .ahead = 0,
                                .packed = 2,
                                .across = 5,
                                .run = {1.35, 1.06, 1, 0.99}};
  if (core::cpu().vendor != "GenuineIntel") return zen3;
  return isa == Isa::avx512 ? intel_avx512 : intel_avx2;
}

/// The sum of what all segments cost.
template <class Cost>
auto sum_of(const Segments& segments, const Cost& cost) {
  decltype(cost(Segment{})) sum{};
  for (const Segments::Run& run : segments.runs()) sum = sum + cost(run.segment) * run.count;
  return sum;
}

/// Counts of generated code, remembered: candidates share most of theirs.
class KnownCounts {
 public:
  /// Both row passes of a pixel row, for all segments of an axis.
  jit::Counts rows(const RowSpectralGeometry& g) {
    const std::vector<int> signs(g.parameters.transform.planes(), 1);
    return sum_of(g.along_segments, [&](const Segment& s) {
      const jit::RowInverseSpec spec = g.inverse(s, true, signs);
      return forward(g, s) + remember(fmt::format("i{} {} {}*{} {}", name(g.isa), spec.transform.text(),
                                                  spec.count, spec.step, spec.relu),
                                      [&] { return jit::count(spec); });
    });
  }
  jit::Counts forward(const RowSpectralGeometry& g, const Segment& segment) {
    const jit::RowForwardSpec spec = g.forward(segment, true);
    return remember(fmt::format("f{} {} {}+{}", name(g.isa), spec.transform.text(), spec.first, spec.count),
                    [&] { return jit::count(spec); });
  }
  jit::Counts real(jit::ToeplitzSpec spec) {
    spec.plane_stride = 0;  // changes no count
    return remember("r" + spec.text(), [&] { return jit::count_real(spec); });
  }
  jit::Counts pair(jit::ToeplitzSpec spec) {
    spec.plane_stride = 0;
    return remember("p" + spec.text(), [&] { return jit::count_pair(spec); });
  }
  jit::Counts pair(jit::ColumnFftSpec spec) {
    spec.plane_stride = 0;
    return remember(spec.text(), [&] { return jit::count_pair(spec); });
  }

 private:
  template <class Compute>
  jit::Counts remember(const std::string& key, const Compute& compute) {
    {
      std::lock_guard lock(mutex_);
      const auto found = known_.find(key);
      if (found != known_.end()) return found->second;
    }
    const jit::Counts value = compute();
    std::lock_guard lock(mutex_);
    if (known_.size() > 20000) known_.clear();
    known_[key] = value;
    return value;
  }
  std::mutex mutex_;
  std::map<std::string, jit::Counts> known_;
};

KnownCounts& counts() {
  static KnownCounts* instance = new KnownCounts;
  return *instance;
}

double column_cycles(const Machine& m, const jit::Counts& c) {
  return std::max({c.multiplies / 2.0, (c.multiplies + c.adds) / m.pipes, c.instructions / 4.0});
}

/// Of all columns of one block.
double column_cycles(const Machine& m, const RowSpectralGeometry& g) {
  const jit::RowTransform& t = g.parameters.transform;
  return sum_of(g.across_segments, [&](const Segment& s) {
    const jit::ToeplitzSpec spec = g.toeplitz(s);
    const double level = m.column[std::min<std::size_t>(spec.karatsuba, m.column.size() - 1)];
    const double pair = g.parameters.two_dimensional()
                            ? m.transform * column_cycles(m, counts().pair(g.column_fft(s)))
                            : level * column_cycles(m, counts().pair(spec));
    return level * t.reals() * column_cycles(m, counts().real(spec)) + t.pairs() * pair;
  });
}

double predicted_seconds(const RowSpectralGeometry& g, int threads) {
  const Machine& m = machine(g.isa);
  const Problem& p = g.problem;
  const double blocks = static_cast<double>(p.batch) * g.all_blocks(),
               l2 = static_cast<double>(core::cpu().l2_bytes);
  const double line = g.vector_bytes / 64.0, along = static_cast<double>(g.along_segments.size());
  const double rows =
      sum_of(g.across_segments, [](const Segment& s) { return s.ins + s.outs; });  // there and back

  const double planes = static_cast<double>(g.planes_bytes());
  const double plane_line = m.plane_in_l2 * std::min(1.0, planes / (64 << 10)) +
                            m.plane_beyond * std::clamp(planes / l2 - 0.1, 0.0, 1.0);
  const double in_cache = m.row * counts().rows(g).instructions / 4 * rows / 2 +
                          plane_line * g.parameters.transform.planes() * rows * along * line +
                          column_cycles(m, g) * along;

  const double lines =
      line * (static_cast<double>(p.height) * p.width + static_cast<double>(p.out_height()) * p.out_width());
  const double bytes = 64 * lines * blocks + 4.0 * g.all_blocks() * g.weights_floats();
  const double beyond = std::min(1.0, bytes / (l2 * threads));
  const Strides tensor = p.input_strides();
  const std::int64_t step = 4 * (g.parameters.along_h ? tensor.row : tensor.pixel);
  double each = m.line + (std::gcd(step, 4096) >= 512 ? m.colliding : 0);
  if (g.buffered())
    each += m.packed;
  else
    each += (g.parameters.along_h ? m.across : 0) - (g.parameters.ahead ? m.ahead : 0);

  // In NCHW the pixels are the runs.
  const int run =
      p.layout == Layout::nhwc ? g.parameters.blocks * g.lanes * static_cast<int>(size_of(p.type)) : 256;
  const double shorter = m.run[run < 64 ? 0 : run < 128 ? 1 : run < 256 ? 2 : 3];
  return (in_cache + lines * beyond * each) * shorter * blocks / 2.7e9 / threads;
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

  std::vector<Candidate> every_candidate(const Problem& problem, const Kernel& geometry, Isa isa,
                                         int threads) const override {
    std::vector<Candidate> found;
    if (isa == Isa::portable || problem.numerics == Numerics::exact) return found;
    // The transform goes along the longer side of the kernel.
    add_axis(found, problem, geometry, isa, threads, geometry.height > geometry.width);
    return found;
  }

  std::unique_ptr<Executor> prepare(const Problem& problem, const Kernel& kernel, const Tiling& tiling,
                                    Isa isa) const override {
    return std::make_unique<RowSpectralExecutor>(
        RowSpectralGeometry(problem, kernel, *RowSpectralParameters::parse(tiling), isa), kernel);
  }

 private:
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

  void add_axis(std::vector<Candidate>& found, const Problem& problem, const Kernel& geometry, Isa isa,
                int threads, bool along_h) const {
    RowSpectralParameters p;
    p.along_h = along_h;
    const RowSpectralGeometry whole(problem, geometry, p, isa);
    for (const int along : segment_sizes(whole.along.output, whole.along.taps)) {
      p.segment_along = along;
      const RowSpectralGeometry cut_along(problem, geometry, p, isa);
      for (const int n : good_lengths(cut_along.along_segments.least_length()))
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
      ranked.emplace_back(counts().forward(g, longest).instructions, g.parameters.transform);
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
    for (const int across : segment_sizes(base.across.output, base.across.taps))
      for (const int levels : {0, 1, 2, 3}) {
        if (levels > 0 && (base.across.stride != 1 || base.across_taps.size() < 7)) continue;
        for (const bool gauss : {true, false}) {
          if (!gauss && (levels > 0 || base.across_taps.size() > 5)) continue;
          for (const int blocks : block_counts(problem, isa)) {
            p.segment_across = across;
            p.karatsuba = levels;
            p.gauss = gauss;
            p.blocks = blocks;
            for (const int rows : tile_rows(across > 0 ? across : base.across.output, levels, isa)) {
              p.rows = rows;
              add_candidate(found, problem, geometry, isa, threads, p);
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

  static void add_transforms(std::vector<Candidate>& found, const Problem& problem, const Kernel& geometry,
                             Isa isa, int threads, RowSpectralParameters p) {
    const RowSpectralGeometry base(problem, geometry, p, isa);
    if (base.across_taps.size() < 7) return;
    for (const int across : segment_sizes(base.across.output, base.across.taps)) {
      p.segment_across = across;
      const RowSpectralGeometry cut_across(problem, geometry, p, isa);
      for (const int n : good_lengths(cut_across.across_segments.least_length())) {
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
    enum { as_they_are, ahead, packed };
    for (const int rows : {as_they_are, ahead, packed}) {
      p.ahead = rows == ahead;
      p.packed = rows == packed;
      const RowSpectralGeometry g(problem, geometry, p, isa);
      if (p.packed && !g.pixels_collide()) continue;
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
      const jit::Counts pair = counts().pair(g.column_fft(g.across_segments[0]));
      ranked.emplace_back(column_cycles(machine(g.isa), pair), factors);
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
