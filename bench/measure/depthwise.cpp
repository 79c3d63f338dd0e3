#include "bench/measure/depthwise.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <memory>
#include <numeric>
#include <random>
#include <span>

#include "bench/measure/peak.hpp"
#include "bench/peers_onednn/depthwise.hpp"
#include "core/cpu.hpp"
#include "core/error.hpp"
#include "core/memory.hpp"
#include "core/threads.hpp"
#include "depthwise/reference.hpp"

namespace replk::bench {
namespace {

using depthwise::Branch;
using depthwise::Problem;
using depthwise::Tensors;
using Floats = core::Buffer<float>;

/// Class exact sums in a fixed order: n roundings, each at most 2^-24 of a partial sum, so n times what
/// compare() allows for a sum of n products, and two more for bias and residual.
double allowed_factor(const Problem& p) {
  if (p.numerics == depthwise::Numerics::fast) return 1;
  double taps = 2;
  for (const Branch& b : p.branches) taps += b.taps();
  return taps;
}

constexpr double peer_tolerance = 1e-4;  // a peer sums in its own order, in single precision

double now() {
  return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

Floats random_floats(std::size_t count, std::mt19937_64& random, float scale) {
  Floats values(count);
  for (float& v : values) v = scale * (float(random() >> 40) * 0x1p-23f - 1.0f);
  return values;
}

/// Seeded weights and tensors of a problem.
struct Data {
  std::vector<Floats> weights;
  Floats bias, src, residual, dst;

  Data(const Problem& p, std::uint64_t seed) : dst(p.output_elements(), true) {
    std::mt19937_64 random(seed);
    for (const Branch& b : p.branches)
      weights.push_back(
          random_floats(std::size_t(p.channels) * b.taps(), random, 1 / std::sqrt(float(b.taps()))));
    bias = random_floats(p.epilogue.bias ? p.channels : 0, random, 0.1f);
    src = random_floats(p.input_elements(), random, 1);
    residual = random_floats(p.epilogue.residual ? p.output_elements() : 0, random, 1);
  }
  std::vector<std::span<const float>> weight_spans() const {
    std::vector<std::span<const float>> spans;
    for (const Floats& w : weights) spans.emplace_back(w.data(), w.size());
    return spans;
  }
  std::span<const float> bias_span() const { return {bias.data(), bias.size()}; }
  Tensors tensors() { return {src.data(), dst.data(), residual.data()}; }
};

/// Median of runs that find none of their data in a cache: each comes after a walk over more than the last one holds.
double cold_seconds(const std::function<void()>& run, int rounds) {
  Times times;
  core::Buffer<char> other(std::max<std::size_t>(64u << 20, 2 * core::cpu().l3_bytes), true);
  for (int i = 0; i < rounds; i++) {
    for (std::size_t at = 0; at < other.size(); at += core::alignment) other[at]++;
    const double start = now();
    run();
    times.seconds.push_back(now() - start);
  }
  return times.median();
}

/// A convolution of one branch that oneDNN can be asked for.
struct Part {
  std::string label;  // what the peers' names get; empty for the problem itself
  Problem problem;
  Floats weights;
};

/// Branch i alone. The first has the bias, the last has activation and residual; adding the branches up is
/// left out, in the peers' favour.
Part branch_part(const Problem& p, const Floats& weights, std::size_t i) {
  const Branch& b = p.branches[i];
  Part part{fmt::format(" k{}x{}", b.kernel_h, b.kernel_w), p, Floats(weights.size())};
  if (b.dilation_h > 1 || b.dilation_w > 1) part.label += fmt::format("d{}x{}", b.dilation_h, b.dilation_w);
  std::copy(weights.begin(), weights.end(), part.weights.begin());
  Problem bounding = p;
  set_default_padding(bounding);
  Problem& alone = part.problem;
  alone.branches = {b};
  set_default_padding(alone);
  alone.pad_h += p.pad_h - bounding.pad_h;
  alone.pad_w += p.pad_w - bounding.pad_w;
  alone.epilogue.bias = p.epilogue.bias && i == 0;
  if (i + 1 < p.branches.size()) {
    alone.epilogue.activation = Activation::none;
    alone.epilogue.residual = false;
  }
  return part;
}

/// All branches as the one bounding kernel.
Part merged_part(const Problem& p, const std::vector<Floats>& weights) {
  Problem bounding = p;
  set_default_padding(bounding);
  Branch whole;
  std::vector<std::pair<int, int>> corners;
  for (const Branch& b : p.branches) {
    Problem alone = p;
    alone.branches = {b};
    set_default_padding(alone);
    corners.emplace_back(bounding.pad_h - alone.pad_h, bounding.pad_w - alone.pad_w);
    whole.kernel_h = std::max(whole.kernel_h, corners.back().first + b.extent_h());
    whole.kernel_w = std::max(whole.kernel_w, corners.back().second + b.extent_w());
  }
  Part part{" merged", p, Floats(std::size_t(p.channels) * whole.taps(), true)};
  part.problem.branches = {whole};
  for (std::size_t i = 0; i < p.branches.size(); i++) {
    const Branch& b = p.branches[i];
    for (int c = 0; c < p.channels; c++)
      for (int y = 0; y < b.kernel_h; y++)
        for (int x = 0; x < b.kernel_w; x++)
          part.weights[(std::size_t(c) * whole.kernel_h + corners[i].first + y * b.dilation_h) *
                           whole.kernel_w +
                       corners[i].second + x * b.dilation_w] +=
              weights[i][(std::size_t(c) * b.kernel_h + y) * b.kernel_w + x];
  }
  return part;
}

std::vector<Part> parts(const Problem& p, const std::vector<Floats>& weights) {
  std::vector<Part> all;
  if (p.branches.size() > 1) all.push_back(merged_part(p, weights));
  for (std::size_t i = 0; i < p.branches.size(); i++) all.push_back(branch_part(p, weights[i], i));
  if (all.size() == 1) all[0].label.clear();
  return all;
}

bool counts(const PeerTime& peer) {
  return peer.ms && peer.implementation.find("gemm") == std::string::npos;
}

/// oneDNN's layouts for one part, each checked; `times` still without ms.
struct PartPeers {
  std::vector<std::unique_ptr<OnednnDepthwise>> peers;
  std::vector<PeerTime> times;
};

PartPeers checked_peers(const Part& part, Data& data, int threads, const DepthwiseOptions& options) {
  const Problem& p = part.problem;
  PartPeers result;
  if (p.pad_h < 0 || p.pad_w < 0) return result;  // oneDNN knows no cropping
  const std::span<const float> weights(part.weights.data(), part.weights.size());
  const std::vector<std::span<const float>> all{weights};
  const std::span<const float> bias = p.epilogue.bias ? data.bias_span() : std::span<const float>{};
  const Tensors tensors = data.tensors();
  result.peers = onednn_depthwise(p, weights, bias, tensors, threads);
  const auto samples = sampled_outputs(p, options.checked_outputs, options.seed);
  std::vector<double> expected;
  for (const auto& peer : result.peers) {
    result.times.push_back({peer->name() + part.label, peer->implementation(), {}, {}});
    if (!peer->runnable()) continue;
    result.times.back().create_ms = peer->create_ms();
    if (expected.empty()) expected = reference(p, all, bias, tensors, samples);
    peer->run();
    peer->result(data.dst.data());
    const double error = compare(p, all, tensors, samples, expected).max_relative_error;
    if (!(error <= peer_tolerance))
      core::fail(core::Status::internal,
                 "{}: the result of {} ({}) is off by {:.2g} of its channel's largest output", to_string(p),
                 peer->name(), peer->implementation(), error);
  }
  return result;
}

const PeerTime* best_of(const std::vector<PeerTime>& peers) {
  const PeerTime* best = nullptr;
  for (const PeerTime& peer : peers)
    if (counts(peer) && (!best || *peer.ms < *best->ms)) best = &peer;
  return best;
}

/// The branches one by one as a peer: each in the layout that is fastest for it.
std::optional<PeerTime> sum_of_branches(std::span<const PartPeers> branches) {
  PeerTime sum{"onednn sum of branches", "", 0.0, 0.0};
  for (const PartPeers& branch : branches) {
    const PeerTime* best = best_of(branch.times);
    if (!best) return {};
    sum.implementation += (sum.implementation.empty() ? "" : "+") + best->implementation;
    *sum.ms += *best->ms;
    *sum.create_ms += best->create_ms.value_or(0);
  }
  return sum;
}

/// Fills in peers, best peer and ratio from the parts' times. A branch alone is no peer: it does not do the
/// whole work.
void compare_with_peers(std::span<const PartPeers> parts, DepthwiseRow& row) {
  std::vector<PeerTime> whole = parts.front().times;
  if (parts.size() > 1) {
    if (const auto sum = sum_of_branches(parts.subspan(1))) whole.push_back(*sum);
    row.note = "peers: the branches merged into one kernel, and the sum of the best for each branch";
  }
  row.peers = whole;
  for (std::size_t i = 1; i < parts.size(); i++)
    row.peers.insert(row.peers.end(), parts[i].times.begin(), parts[i].times.end());
  if (const PeerTime* best = best_of(whole)) {
    row.best_peer = best->name;
    row.best_peer_ms = best->ms;
    row.ratio = *best->ms / row.ms;
  } else {
    row.note = "oneDNN has only reference or gemm code for this shape";
  }
}

}  // namespace

DepthwiseRow measure_depthwise(const Problem& p, const DepthwiseOptions& options) {
  validate(p);
  if (p.type != DataType::f32)
    core::fail(core::Status::unsupported, "{}: only fp32 storage can be compared with oneDNN yet",
               to_string(p));
  DepthwiseRow row;
  row.threads = core::effective_threads(options.threads);
  row.shape = to_string(p);
  Data data(p, options.seed);
  const auto weights = data.weight_spans();
  const Tensors tensors = data.tensors();

  const double start = now();
  depthwise::PlanOptions plan_options = options.plan;
  plan_options.threads = row.threads;
  const depthwise::Plan plan(p, weights, data.bias_span(), plan_options);
  row.create_ms = 1e3 * (now() - start);
  row.algorithm = plan.tiling().algorithm;
  row.tiling = plan.tiling().to_string();
  row.source = plan.source();
  row.workspace_bytes = plan.workspace_bytes();
  row.prepared_bytes = plan.executor().prepared_bytes();
  core::Buffer<std::byte> workspace(row.workspace_bytes);

  const auto samples = sampled_outputs(p, options.checked_outputs, options.seed);
  row.samples = std::int64_t(samples.size());
  plan.run(tensors, workspace.data());
  if (options.spoil) options.spoil(data.dst.data(), data.dst.size());
  const auto accuracy =
      compare(p, weights, tensors, samples, reference(p, weights, data.bias_span(), tensors, samples));
  row.max_relative_error = accuracy.max_relative_error;
  row.max_of_allowed = accuracy.max_of_allowed;
  row.max_of_allowed /= allowed_factor(p);
  if (!(row.max_of_allowed <= 1))
    core::fail(core::Status::internal,
               "{}: the result of '{}' is off by {:.2g} of its channel's largest output, {:.2g} times what "
               "is allowed; "
               "not timed",
               row.shape, row.tiling, row.max_relative_error, row.max_of_allowed);

  std::vector<PartPeers> peers;
  if (options.peers)
    for (const Part& part : parts(p, data.weights))
      peers.push_back(checked_peers(part, data, row.threads, options));

  std::vector<std::function<void()>> runs{[&] { plan.run(tensors, workspace.data()); }};
  std::vector<PeerTime*> timed;
  for (PartPeers& part : peers)
    for (std::size_t i = 0; i < part.peers.size(); i++)
      if (part.peers[i]->runnable()) {
        runs.push_back([peer = part.peers[i].get()] { peer->run(); });
        timed.push_back(&part.times[i]);
      }
  const double peak_before = fma_peak_gflops(row.threads);
  const std::vector<Times> times = race(runs, options.race);
  row.peak_gflops = (peak_before + fma_peak_gflops(row.threads)) / 2;

  if (options.cold_rounds > 0) row.ms_cold = 1e3 * cold_seconds(runs[0], options.cold_rounds);

  const double seconds = times[0].median();
  row.ms = 1e3 * seconds;
  for (const double s : times[0].seconds) row.samples_ms.push_back(1e3 * s);
  for (std::size_t i = 0; i < timed.size(); i++) timed[i]->ms = 1e3 * times[i + 1].median();
  if (!peers.empty()) compare_with_peers(peers, row);

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

}  // namespace replk::bench
