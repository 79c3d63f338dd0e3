#include "depthwise/row_spectral/counts.hpp"

#include <fmt/format.h>

#include <vector>

namespace replk::depthwise {
namespace {

/// The sum of what all segments cost.
template <class Cost>
auto sum_of(const Segments& segments, const Cost& cost) {
  decltype(cost(Segment{})) sum{};
  for (const Segments::Run& run : segments.runs()) sum = sum + cost(run.segment) * run.count;
  return sum;
}

}  // namespace

template <class Compute>
jit::Counts KnownCounts::remember(const std::string& key, const Compute& compute) {
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

jit::Counts KnownCounts::rows(const RowSpectralGeometry& g) {
  const std::vector<int> signs(g.parameters.transform.planes(), 1);
  return sum_of(g.along_segments, [&](const Segment& s) {
    const jit::RowInverseSpec spec = g.inverse(s, g.buffered(), signs);
    return forward(g, s) +
           remember(fmt::format("i{} {} {}*{} {} {} {}", name(g.isa), spec.transform.text(), spec.count,
                                spec.step, name(spec.type), spec.native_bf16, spec.relu),
                    [&] { return jit::count(spec); });
  });
}

jit::Counts KnownCounts::forward(const RowSpectralGeometry& g, const Segment& segment) {
  const jit::RowForwardSpec spec = g.forward(segment, g.buffered());
  return remember(fmt::format("f{} {} {}+{} {}", name(g.isa), spec.transform.text(), spec.first, spec.count,
                              name(spec.type)),
                  [&] { return jit::count(spec); });
}

jit::Counts KnownCounts::real(jit::ToeplitzSpec spec) {
  spec.plane_stride = 0;  // changes no count
  return remember("r" + spec.text(), [&] { return jit::count_real(spec); });
}

jit::Counts KnownCounts::pair(jit::ToeplitzSpec spec) {
  spec.plane_stride = 0;
  return remember("p" + spec.text(), [&] { return jit::count_pair(spec); });
}

jit::Counts KnownCounts::pair(jit::ColumnFftSpec spec) {
  spec.plane_stride = 0;
  return remember(spec.text(), [&] { return jit::count_pair(spec); });
}

KnownCounts& known_counts() {
  static KnownCounts* const instance = new KnownCounts;
  return *instance;
}

SpectralCounts spectral_counts(const RowSpectralGeometry& g, int threads) {
  const Problem& p = g.problem;
  const jit::RowTransform& t = g.parameters.transform;
  KnownCounts& counts = known_counts();
  // Narrow pixels that no window holds are as many lines less.
  const double line = g.vector_bytes / 64.0,
               in_line = g.buffered() ? line : line * static_cast<double>(size_of(p.type)) / 4,
               out_line = g.buffered() ? line : line * static_cast<double>(size_of(p.output_type())) / 4,
               along = static_cast<double>(g.along_segments.size());
  const double rows =
      sum_of(g.across_segments, [](const Segment& s) { return s.ins + s.outs; });  // there and back
  SpectralCounts c{.threads = static_cast<double>(threads),
                   .blocks = static_cast<double>(p.batch) * g.all_blocks(),
                   .row_instructions = counts.rows(g).instructions * rows / 2,
                   .plane_lines = t.planes() * rows * along * line,
                   .planes_bytes = static_cast<double>(g.planes_bytes()),
                   .columns = {},
                   .tensor_lines = in_line * p.height * p.width + out_line * p.out_height() * p.out_width(),
                   .bytes = 0,
                   .step = static_cast<std::int64_t>(size_of(p.type)) *
                           (g.parameters.along_h ? p.input_strides().row : p.input_strides().pixel),
                   .buffered = g.buffered(),
                   .ahead = g.parameters.ahead,
                   .along_h = g.parameters.along_h,
                   // In NCHW the pixels are the runs.
                   .run_bytes = p.layout == Layout::nhwc
                                    ? g.parameters.blocks * g.lanes * static_cast<int>(size_of(p.type))
                                    : 256};
  c.bytes = 64 * c.tensor_lines * c.blocks + 4.0 * g.all_blocks() * g.weights_floats();
  for (const Segments::Run& run : g.across_segments.runs()) {
    const jit::ToeplitzSpec spec = g.toeplitz(run.segment);
    const double times = run.count * along;
    c.columns.push_back({counts.real(spec), times * t.reals(), spec.karatsuba});
    SpectralCounts::Columns pairs = g.parameters.columns->pair(g, run.segment);
    pairs.times = times * t.pairs();
    c.columns.push_back(pairs);
  }
  return c;
}

}  // namespace replk::depthwise
