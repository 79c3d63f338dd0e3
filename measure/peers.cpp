#include "measure/peers.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <optional>
#include <span>
#include <utility>

#include "core/clock.hpp"
#include "core/error.hpp"
#include "depthwise/problem/reference.hpp"

namespace replk::bench {
namespace {

using depthwise::Branch;
using depthwise::Problem;
using depthwise::Tensors;

constexpr double kSurelySlow = 6;  // in a first run, which finds caches cold

/// A peer sums in its own order, in single precision, and rounds its result, and perhaps what comes between
/// product and epilogue, to the storage type.
double peer_tolerance(DataType type) {
  return type == DataType::f32 ? 1e-4 : type == DataType::bf16 ? 0x1p-7 : 0x1p-10;
}

/// A convolution of one branch that oneDNN can be asked for.
struct Part {
  std::string label;  // what the peers' names get; empty for the problem itself
  Problem problem;
  core::Buffer<float> weights;
  PeerGroup::Role role = PeerGroup::Role::whole;
};

/// Branch i alone. The first has the bias, the last has activation and residual; adding the branches up is
/// left out, in the peers' favour.
Part branch_part(const Problem& p, const core::Buffer<float>& weights, std::size_t i) {
  const Branch& b = p.branches[i];
  Part part{fmt::format(" k{}x{}", b.kernel_h, b.kernel_w), p, core::Buffer<float>(weights.size()),
            PeerGroup::Role::branch};
  if (b.dilation_h > 1 || b.dilation_w > 1) part.label += fmt::format("d{}x{}", b.dilation_h, b.dilation_w);
  std::copy(weights.begin(), weights.end(), part.weights.begin());
  Problem bounding = p;
  set_default_padding(bounding);
  Problem& alone = part.problem;
  alone.branches = {b};
  set_default_padding(alone);
  const auto moved = [](const depthwise::Padding& its, const depthwise::Padding& all, int standard) {
    return depthwise::Padding{its.before + all.before - standard, its.after + all.after - standard};
  };
  alone.pad_h = moved(alone.pad_h, p.pad_h, bounding.pad_h.before);
  alone.pad_w = moved(alone.pad_w, p.pad_w, bounding.pad_w.before);
  alone.epilogue.bias = p.epilogue.bias && i == 0;
  if (i + 1 < p.branches.size()) {
    alone.epilogue.activation = Activation::none;
    alone.epilogue.residual = false;
  }
  return part;
}

/// All branches as the one bounding kernel.
Part merged_part(const Problem& p, const std::vector<core::Buffer<float>>& weights) {
  Problem bounding = p;
  set_default_padding(bounding);
  Branch whole;
  std::vector<std::pair<int, int>> corners;
  for (const Branch& b : p.branches) {
    Problem alone = p;
    alone.branches = {b};
    set_default_padding(alone);
    corners.emplace_back(bounding.pad_h.before - alone.pad_h.before,
                         bounding.pad_w.before - alone.pad_w.before);
    whole.kernel_h = std::max(whole.kernel_h, corners.back().first + b.extent_h());
    whole.kernel_w = std::max(whole.kernel_w, corners.back().second + b.extent_w());
  }
  Part part{" merged", p, core::Buffer<float>(std::size_t(p.channels) * whole.taps(), true)};
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

std::vector<Part> parts(const Problem& p, const std::vector<core::Buffer<float>>& weights) {
  std::vector<Part> all;
  if (p.branches.size() > 1) all.push_back(merged_part(p, weights));
  for (std::size_t i = 0; i < p.branches.size(); i++) all.push_back(branch_part(p, weights[i], i));
  if (all.size() == 1)
    all[0] = {"", std::move(all[0].problem), std::move(all[0].weights), PeerGroup::Role::whole};
  for (Part& part : all) round_to(p.type, part.weights);  // oneDNN keeps weights in the tensors' type
  return all;
}

bool is_gemm(const std::string& implementation) {
  return implementation.find("gemm") != std::string::npos;
}

/// Gemm code and what is far slower than another: their check was run enough.
void settle_the_slow(PeerGroup& group, const std::vector<double>& first_ms) {
  double best = HUGE_VAL;
  for (std::size_t i = 0; i < group.peers.size(); i++)
    if (group.raced[i] && !is_gemm(group.times[i].implementation)) best = std::min(best, first_ms[i]);
  for (std::size_t i = 0; i < group.peers.size(); i++) {
    const bool slow = first_ms[i] > kSurelySlow * best || is_gemm(group.times[i].implementation);
    if (!group.raced[i] || !slow || first_ms[i] < 5) continue;  // a short first run says little
    group.times[i].ms = first_ms[i];
    group.raced[i] = false;
  }
}

/// oneDNN crops at the end alone; the rest of these is not asked of it.
bool onednn_can(const Problem& p) {
  return p.pad_h.before >= 0 && p.pad_w.before >= 0 && p.multiplier == 1 && !p.src_strides &&
         !p.dst_strides && !p.out_layout && !p.epilogue.scale && p.epilogue.activation <= Activation::gelu;
}

PeerGroup checked_group(const Part& part, Data& data, int threads, const DepthwiseOptions& options) {
  const Problem& p = part.problem;
  PeerGroup group;
  group.role = part.role;
  if (!onednn_can(p)) return group;
  const std::span<const float> weights(part.weights.data(), part.weights.size());
  const std::vector<std::span<const float>> all{weights};
  const std::span<const float> bias = p.epilogue.bias ? data.bias_span() : std::span<const float>{};
  const Tensors tensors = data.tensors();
  group.peers = onednn_depthwise(p, weights, bias, tensors, threads);
  std::vector<depthwise::Sample> samples;
  std::vector<double> expected;
  std::vector<double> first_ms;
  for (const auto& peer : group.peers) {
    group.times.push_back({peer->name() + part.label, peer->implementation(), {}, {}});
    const auto& skipped = options.skipped_peers;
    const bool skip = std::find(skipped.begin(), skipped.end(), group.times.back().name) != skipped.end() ||
                      (is_gemm(peer->implementation()) && double(p.useful_macs()) > options.gemm_macs);
    group.raced.push_back(peer->runnable() && !skip);
    first_ms.push_back(0);
    if (peer->runnable()) group.times.back().create_ms = peer->create_ms();
    if (!group.raced.back()) continue;
    if (expected.empty()) {
      samples = sampled_outputs(p, options.checked_outputs, options.seed);
      expected = reference(p, all, bias, tensors, samples);
    }
    const double start = core::seconds();
    peer->run();
    first_ms.back() = 1e3 * (core::seconds() - start);
    peer->result(data.dst.data());
    const double error = compare(p, all, bias, tensors, samples, expected).max_relative_error;
    if (!(error <= peer_tolerance(p.type)))
      core::fail(core::Status::internal,
                 "{}: the result of {} ({}) is off by {:.2g} of its channel's largest output", to_string(p),
                 peer->name(), peer->implementation(), error);
  }
  settle_the_slow(group, first_ms);
  return group;
}

const PeerTime* best_of(const std::vector<PeerTime>& peers) {
  const PeerTime* best = nullptr;
  for (const PeerTime& peer : peers)
    if (counts(peer) && (!best || *peer.ms < *best->ms)) best = &peer;
  return best;
}

std::optional<double> best_cold_of(const std::vector<PeerTime>& peers) {
  std::optional<double> best;
  for (const PeerTime& peer : peers)
    if (peer.ms_cold && (!best || *peer.ms_cold < *best)) best = peer.ms_cold;
  return best;
}

/// The branches one by one as a peer: each in the layout that is fastest for it.
std::optional<PeerTime> sum_of_branches(const std::vector<PeerGroup>& groups) {
  PeerTime sum{"onednn sum of branches", "", 0.0, 0.0, 0.0};
  for (const PeerGroup& group : groups) {
    if (group.role != PeerGroup::Role::branch) continue;
    const PeerTime* best = best_of(group.times);
    if (!best) return {};
    sum.implementation += (sum.implementation.empty() ? "" : "+") + best->implementation;
    *sum.ms += *best->ms;
    *sum.create_ms += best->create_ms.value_or(0);
    const std::optional<double> cold = best_cold_of(group.times);
    sum.ms_cold = sum.ms_cold && cold ? std::optional(*sum.ms_cold + *cold) : std::nullopt;
  }
  if (sum.implementation.empty()) return {};
  return sum;
}

bool any_runnable(const PeerGroup& group) {
  return std::any_of(group.peers.begin(), group.peers.end(),
                     [](const auto& peer) { return peer->runnable() && !is_gemm(peer->implementation()); });
}

}  // namespace

bool counts(const PeerTime& peer) {
  return peer.ms && !is_gemm(peer.implementation);
}

std::vector<PeerGroup> checked_peers(const Problem& p, Data& data, int threads,
                                     const DepthwiseOptions& options) {
  std::vector<PeerGroup> groups;
  if (p.out_type || p.type == DataType::u8)
    groups.emplace_back();  // no peer has such tensors
  else
    for (const Part& part : parts(p, data.weights))
      groups.push_back(checked_group(part, data, threads, options));
  if ((p.type != DataType::f32 || p.out_type) && std::none_of(groups.begin(), groups.end(), any_runnable)) {
    Problem widened = p;
    widened.type = DataType::f32;
    widened.out_type.reset();
    Data wide(widened, options.seed);  // the peers keep copies of their own
    Part part = std::move(parts(widened, wide.weights).front());
    part.label += " fp32";
    part.role = PeerGroup::Role::wider;
    groups.push_back(checked_group(part, wide, threads, options));
  }
  return groups;
}

void compare_with_peers(const Problem& p, const std::vector<PeerGroup>& groups, DepthwiseRow& row) {
  std::vector<PeerTime> whole = groups.front().times;
  const auto sum = sum_of_branches(groups);
  if (sum) whole.push_back(*sum);
  if (p.branches.size() > 1)
    row.note = "peers: the branches merged into one kernel, and the sum of the best for each branch";
  row.peers = whole;
  for (const PeerGroup& group : groups)
    if (&group != &groups.front()) row.peers.insert(row.peers.end(), group.times.begin(), group.times.end());
  if (const PeerTime* best = best_of(whole)) {
    row.best_peer = best->name;
    row.best_peer_ms = best->ms;
    row.ratio = *best->ms / row.ms;
    row.best_peer_ms_cold = best_cold_of(whole);
    return;
  }
  row.note = "oneDNN has only reference or gemm code for this shape";
  if (groups.back().role != PeerGroup::Role::wider) return;
  const PeerTime* wider = best_of(groups.back().times);
  row.note = p.out_type ? fmt::format("oneDNN has no code from {} to {}", name(p.type), name(*p.out_type))
                        : fmt::format("oneDNN has only reference code for {} here", name(p.type));
  if (wider)
    row.note += fmt::format("; its best on fp32 tensors, {}, is shown and takes {:.3g} ms, {:.1f} times ours",
                            wider->name, *wider->ms, *wider->ms / row.ms);
}

}  // namespace replk::bench
