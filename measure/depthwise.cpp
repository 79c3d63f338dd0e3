#include "measure/depthwise.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <memory>
#include <span>

#include "core/clock.hpp"
#include "core/cpu.hpp"
#include "core/error.hpp"
#include "core/memory.hpp"
#include "core/threads.hpp"
#include "depthwise/problem/reference.hpp"
#include "measure/data.hpp"
#include "measure/onednn/tensor_memory.hpp"
#include "measure/peak.hpp"
#include "measure/peers.hpp"

namespace replk::bench {
namespace {

using depthwise::Branch;
using depthwise::Problem;
using depthwise::Tensors;

/// Class exact sums in a fixed order: n roundings, each at most 2^-24 of a partial sum, so n times what
/// compare() allows for a sum of n products, and two more for bias and residual.
double allowed_factor(const Problem& p) {
  if (p.numerics == depthwise::Numerics::fast) return 1;
  double taps = 2;
  for (const Branch& b : p.branches) taps += b.taps();
  return taps;
}

/// Medians of runs that find none of their data in a cache: each comes after a walk over more than the last
/// one holds. In turns, as all rivals are timed.
std::vector<double> cold_seconds(const std::vector<std::function<void()>>& runs, int rounds) {
  std::vector<Times> times(runs.size());
  core::Buffer<char> other(std::max<std::size_t>(64u << 20, 2 * core::cpu().l3_bytes), true);
  for (int round = 0; round < rounds; round++)
    for (std::size_t i = 0; i < runs.size(); i++) {
      for (std::size_t at = 0; at < other.size(); at += core::alignment) other[at]++;
      const double start = core::seconds();
      runs[i]();
      times[i].seconds.push_back(core::seconds() - start);
    }
  std::vector<double> medians;
  for (const Times& each : times) medians.push_back(each.median());
  return medians;
}

/// Times ours and the peers that may be the fastest cold: those that are not far from it warm.
void time_cold(DepthwiseRow& row, const std::vector<std::function<void()>>& runs,
               const std::vector<PeerTime*>& timed, const std::vector<int>& parts, int rounds) {
  std::vector<double> best(runs.size(), HUGE_VAL);  // of a part
  for (std::size_t i = 0; i < timed.size(); i++)
    if (counts(*timed[i])) best[parts[i + 1]] = std::min(best[parts[i + 1]], *timed[i]->ms);
  std::vector<std::function<void()>> near{runs.front()};
  std::vector<PeerTime*> peers;
  for (std::size_t i = 0; i < timed.size(); i++)
    if (counts(*timed[i]) && *timed[i]->ms <= kHopeless * best[parts[i + 1]]) {
      near.push_back(runs[i + 1]);
      peers.push_back(timed[i]);
    }
  const std::vector<double> seconds = cold_seconds(near, rounds);
  row.ms_cold = 1e3 * seconds[0];
  for (std::size_t i = 0; i < peers.size(); i++) peers[i]->ms_cold = 1e3 * seconds[i + 1];
}

/// What visits of one row are compared by.
double figure(const DepthwiseRow& row) {
  return row.ratio.value_or(row.ms);
}

/// What other weights for a problem that is planned already take.
void time_other_weights(DepthwiseRow& row, depthwise::Plan& plan,
                        std::span<const std::span<const float>> weights, std::span<const float> bias,
                        const depthwise::PlanOptions& options) {
  const double start = core::seconds();
  const depthwise::Plan again(plan.problem(), weights, bias, options);
  row.create_again_ms = 1e3 * (core::seconds() - start);
  row.set_weights_ms = HUGE_VAL;
  for (int i = 0; i < 5; i++) {
    const double begin = core::seconds();
    plan.set_weights(weights, bias);
    row.set_weights_ms = std::min(row.set_weights_ms, 1e3 * (core::seconds() - begin));
  }
}

/// Throws where the result that lies in the tensors is wrong.
void check_result(DepthwiseRow& row, const Problem& p, const Data& data, const Tensors& tensors,
                  const DepthwiseOptions& options) {
  const auto weights = data.weight_spans();
  const auto samples = sampled_outputs(p, options.checked_outputs, options.seed);
  row.checked_outputs = std::int64_t(samples.size());
  const auto accuracy = compare(p, weights, data.bias_span(), tensors, samples,
                                reference(p, weights, data.bias_span(), tensors, samples, data.scale_span()),
                                data.scale_span());
  row.max_relative_error = accuracy.max_relative_error;
  row.max_of_allowed = accuracy.max_of_allowed;
  row.max_of_allowed /= allowed_factor(p);
  if (!(row.max_of_allowed <= 1))
    core::fail(core::Status::internal,
               "{}: the result of '{}' is off by {:.2g} of its channel's largest output, {:.2g} times what "
               "is allowed; "
               "not timed",
               row.shape, row.tiling, row.max_relative_error, row.max_of_allowed);
}

/// Races `run` and the peers. Sets the row's times, and the peak of the machine around them.
void time_with_peers(DepthwiseRow& row, const std::function<void()>& run, std::vector<PeerGroup>& peers,
                     const DepthwiseOptions& options) {
  std::vector<std::function<void()>> runs{run};
  std::vector<PeerTime*> timed;
  std::vector<int> parts{0};
  for (std::size_t g = 0; g < peers.size(); g++)
    for (std::size_t i = 0; i < peers[g].peers.size(); i++)
      if (peers[g].raced[i]) {
        runs.push_back([peer = peers[g].peers[i].get()] { peer->run(); });
        timed.push_back(&peers[g].times[i]);
        parts.push_back(static_cast<int>(g));
      }
  const double peak_before = peak_gflops(Precision::fp32, row.threads);
  const std::vector<Times> times = race(runs, options.race, parts);
  row.peak_gflops = (peak_before + peak_gflops(Precision::fp32, row.threads)) / 2;

  row.ms = 1e3 * times[0].median();
  for (const double s : times[0].seconds) row.rounds_ms.push_back(1e3 * s);
  for (std::size_t i = 0; i < timed.size(); i++) timed[i]->ms = 1e3 * times[i + 1].median();
  if (options.cold_rounds > 0) time_cold(row, runs, timed, parts, options.cold_rounds);
}

DepthwiseRow visit(const Problem& p, const DepthwiseOptions& options) {
  DepthwiseRow row;
  row.threads = core::effective_threads(options.threads);
  row.shape = to_string(p);
  Data data(p, options.seed);
  const auto weights = data.weight_spans();
  const Tensors tensors = data.tensors();

  const double start = core::seconds();
  depthwise::PlanOptions plan_options = options.plan;
  plan_options.threads = row.threads;
  plan_options.scale = data.scale_span();
  depthwise::Plan plan(p, weights, data.bias_span(), plan_options);
  row.create_ms = 1e3 * (core::seconds() - start);
  time_other_weights(row, plan, weights, data.bias_span(), plan_options);
  row.algorithm = plan.tiling().algorithm;
  row.tiling = plan.tiling().to_string();
  row.source = plan.source();
  row.workspace_bytes = plan.workspace_bytes();
  row.prepared_bytes = plan.prepared_bytes();
  core::Buffer<std::byte> workspace = tensor_memory(row.workspace_bytes);

  const auto run = [&] { plan.run(tensors, workspace.data()); };
  run();
  if (options.spoil)
    options.spoil(
        {data.dst.data(), static_cast<std::size_t>(p.output_elements()) * size_of(p.output_type())});
  check_result(row, p, data, tensors, options);

  std::vector<PeerGroup> peers;
  if (options.peers) peers = checked_peers(p, data, row.threads, options);
  time_with_peers(row, run, peers, options);
  if (!peers.empty()) compare_with_peers(p, peers, row);

  const double seconds = 1e-3 * row.ms;
  const depthwise::Work work = plan.executor().work();
  row.useful_gflops = 2e-9 * double(p.useful_macs()) / seconds;
  row.percent_of_peak = 100 * row.useful_gflops / row.peak_gflops;
  row.fma = work.fma;
  row.add = work.add;
  // An addition takes a multiply-add's place in the pipes.
  row.percent_of_limit = 100 * 2e-9 * (work.fma + work.add) / seconds / row.peak_gflops;
  row.bytes_moved = work.bytes_read + work.bytes_written;
  return row;
}

}  // namespace

bool undecided(const std::vector<DepthwiseRow>& visits) {
  constexpr double apart = 1.03;
  std::vector<double> figures;
  for (const DepthwiseRow& row : visits) figures.push_back(figure(row));
  std::sort(figures.begin(), figures.end());
  const std::size_t middle = figures.size() / 2;
  return figures.size() > 2 && figures[middle + 1] > apart * figures[middle - 1];
}

DepthwiseRow middle_of(std::vector<DepthwiseRow> visits) {
  std::vector<Visit> all;
  for (const DepthwiseRow& row : visits) all.push_back({row.ms, row.best_peer_ms});
  const std::string source =
      visits.front().source;  // the first may have been tuned, the others find it remembered
  const std::optional<double> ms_cold = visits.front().ms_cold;
  const std::optional<double> best_peer_ms_cold = visits.front().best_peer_ms_cold;
  const std::vector<PeerTime> first = visits.front().peers;
  const auto middle = visits.begin() + std::ssize(visits) / 2;
  std::nth_element(visits.begin(), middle, visits.end(),
                   [&](const auto& a, const auto& b) { return figure(a) < figure(b); });
  middle->visits = std::move(all);
  middle->source = source;
  middle->ms_cold = ms_cold;
  middle->best_peer_ms_cold = best_peer_ms_cold;
  for (PeerTime& peer : middle->peers)
    for (const PeerTime& before : first)
      if (peer.name == before.name) {
        peer.ms_cold = before.ms_cold;
        if (!peer.ms) peer = before;
      }
  return std::move(*middle);
}

std::vector<std::string> hopeless_peers(const DepthwiseRow& row) {
  // Peers compete with those of the same convolution: a name is runtime, layout and, perhaps, which one.
  const auto part = [](const std::string& name) {
    return name.substr(std::min(name.find(' ', name.find(' ') + 1), name.size()));
  };
  std::vector<std::string> names;
  for (const PeerTime& peer : row.peers) {
    bool hopeless = !counts(peer);
    for (const PeerTime& rival : row.peers)
      hopeless = hopeless ||
                 (counts(rival) && part(rival.name) == part(peer.name) && *peer.ms > kHopeless * *rival.ms);
    if (hopeless) names.push_back(peer.name);
  }
  return names;
}

DepthwiseRow measure_depthwise(const Problem& problem, const DepthwiseOptions& options) {
  validate(problem);
  std::vector<DepthwiseRow> visits;
  DepthwiseOptions each = options;
  for (int i = 0; i < options.visits; i++) {
    visits.push_back(visit(problem, each));
    if (i > 0) continue;
    each.cold_rounds = 0;
    each.skipped_peers = hopeless_peers(visits.front());
  }
  return middle_of(std::move(visits));
}

}  // namespace replk::bench
