#include "depthwise/row_spectral/algorithm.hpp"

#include <algorithm>
#include <set>
#include <tuple>
#include <utility>

#include "depthwise/row_spectral/counts.hpp"
#include "depthwise/row_spectral/executor.hpp"
#include "jit/x64/fingerprint.hpp"

namespace replk::depthwise {
namespace {

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

/// The best splits of a length by predicted cost.
std::vector<jit::RowTransform> transforms(const RowSpectralGeometry& cut_along, int n) {
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

}  // namespace

std::span<const std::int32_t> SpectralAlgorithm::constants() const {
  return jit::values_of<RowSpectralConstants>;
}

std::optional<RowSpectralParameters> SpectralAlgorithm::parameters(const Tiling& tiling) const {
  auto p = RowSpectralParameters::rows_of(tiling);
  // Else there are unknown or repeated fields, another name or spelling.
  if (p && read_columns(tiling, *p) && p->tiling() == tiling) return p;
  return {};
}

std::unique_ptr<Variant> SpectralAlgorithm::read_fields(const Request& request, const Tiling& tiling) const {
  const auto read = parameters(tiling);
  if (request.isa() == Isa::portable || !read) return nullptr;
  RowSpectralGeometry geometry(request, *read);
  if (!geometry.feasible()) return nullptr;
  return std::make_unique<RowSpectralVariant>(request, std::move(geometry));
}

std::vector<Candidate> SpectralAlgorithm::every_candidate(const Request& request) const {
  std::vector<Candidate> found;
  if (request.isa() == Isa::portable) return found;
  add_axis(found, request, request.kernel.height > request.kernel.width);
  return found;
}

/// The best of each way to bring rows in, and weights, stays as well: which is faster depends most on the
/// machine.
void SpectralAlgorithm::keep_best(std::vector<Candidate>& sorted, std::size_t most) const {
  std::size_t kept = std::min(most, sorted.size());
  std::set<std::tuple<int, int, bool>> ways;
  for (std::size_t i = 0; i < sorted.size(); i++) {
    const bool first = ways.emplace(sorted[i].tiling.number("packed", 0), sorted[i].tiling.number("ahead", 0),
                                    sorted[i].tiling.word("weights").empty())
                           .second;
    if (i >= most && first) sorted[kept++] = sorted[i];
  }
  sorted.resize(kept);
}

void SpectralAlgorithm::add_axis(std::vector<Candidate>& found, const Request& request, bool along_h) const {
  RowSpectralParameters p;
  p.along_h = along_h;
  const RowSpectralGeometry whole(request, p);
  for (const int along : segment_sizes(whole.along.output, whole.along.taps)) {
    p.segment_along = along;
    const RowSpectralGeometry cut_along(request, p);
    for (const int n : good_lengths(cut_along.along_segments.least_length()))
      for (const jit::RowTransform& transform : transforms(cut_along, n)) {
        p.transform = transform;
        add_columns(found, request, p);
      }
  }
}

void SpectralAlgorithm::add_candidate(std::vector<Candidate>& found, const Request& request,
                                      RowSpectralParameters p) {
  enum { as_they_are, ahead, packed };
  for (const bool half_weights : {false, true})
    for (const int rows : {as_they_are, ahead, packed}) {
      p.half_weights = half_weights;
      p.ahead = rows == ahead;
      p.packed = rows == packed;
      const RowSpectralGeometry g(request, p);
      if (p.packed && !g.pixels_collide()) continue;
      if (g.feasible())
        found.push_back(
            {p.tiling(), seconds(machine(request.features), spectral_counts(g, request.threads))});
    }
}

std::vector<int> SpectralAlgorithm::block_counts(const Request& request) {
  if (request.problem.layout == Layout::nchw) return {1, 4};  // more only share the cost of starting
  return request.isa() == Isa::avx512 ? std::vector<int>{1, 2, 4} : std::vector<int>{1, 2, 4, 8};
}

std::vector<int> SpectralAlgorithm::segment_sizes(int outputs, int taps) {
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

std::vector<int> SpectralAlgorithm::good_lengths(int least) {
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

}  // namespace replk::depthwise
