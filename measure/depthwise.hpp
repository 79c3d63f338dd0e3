// One row of a depthwise comparison: ours against oneDNN in one process.
#pragma once
#include <cstddef>
#include <cstdint>
#include <functional>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "depthwise/plan.hpp"
#include "depthwise/problem/problem.hpp"
#include "measure/race.hpp"

namespace replk::bench {

struct PeerTime {
  std::string name, implementation;  // as OnednnDepthwise has them; those of several branches joined by +
  std::optional<double> ms;          // none where it is reference code or missing, and so was not run
  std::optional<double> create_ms;
  std::optional<double> ms_cold = {};  // as the row's; none where not asked for, or far from the fastest
};

/// One of a row's visits: medians of its rounds.
struct Visit {
  double ms = 0;
  std::optional<double> best_peer_ms;
};

/// A new member is a line in row_json.cpp besides.
struct DepthwiseRow {
  std::string shape, algorithm, tiling, source;
  double ms = 0;
  /// The median of runs with tensors and weights out of the caches; none where not asked for.
  std::optional<double> ms_cold;
  std::optional<double> best_peer_ms_cold;  // of the peer that is fastest then
  std::vector<PeerTime> peers;
  /// The fastest peer; oneDNN's reference and gemm code do not count.
  std::optional<std::string> best_peer;
  std::optional<double> best_peer_ms, ratio;  // ratio: best_peer_ms / ms
  double max_relative_error = 0;              // over the channel's largest output
  double max_of_allowed = 0;                  // over what the problem's numerics class allows
  int threads = 1;
  std::int64_t checked_outputs = 0;  // compared with the double reference
  double peak_gflops = 0;       // multiply-add peak of all threads, the mean of before and after the timing
  double useful_gflops = 0;     // of the taps that meet the map, two operations a tap
  double percent_of_peak = 0;   // of useful_gflops: transforms do less work and may pass 100
  double percent_of_limit = 0;  // of the peak, in the operations that the algorithm really does
  double fma = 0, add = 0;      // lane operations that a run really does
  double create_ms = 0;         // the plan, choice and packing included
  double create_again_ms = 0;   // another plan of the same problem
  double set_weights_ms = 0;    // the best of a few
  double bytes_moved = 0;       // tensors and packed weights
  std::size_t workspace_bytes = 0, prepared_bytes = 0;
  std::string note;               // what a reader must know about this row; often empty
  std::vector<double> rounds_ms;  // ours, a round each
  std::vector<Visit> visits;
};

struct DepthwiseOptions {
  int threads = 0;              // 0: all
  depthwise::PlanOptions plan;  // its threads are not used
  RaceOptions race;
  std::int64_t checked_outputs = 4096;  // at least; all where there are fewer
  std::uint64_t seed = 1;               // of weights and tensors
  bool peers = true;
  std::vector<std::string> skipped_peers;  // by name: listed, but neither checked nor timed
  double gemm_macs = 1e18;  // oneDNN's gemm code, which never counts, runs on problems of at most so many
  /// Times that all is made anew, on other pages, and measured; the middle visit counts.
  int visits = 1;
  int cold_rounds = 0;  // runs, each after the caches were filled with something else, of ours and of peers
  /// For tests of the check: called on the result of ours before it is compared.
  std::function<void(std::span<std::byte> dst)> spoil;
};

/// The visit whose ratio (or time, where there is none) is the middle one, all of its figures together, and
/// `visits` of all; what only the first measured (cold times, skipped peers) comes from there. Not empty.
DepthwiseRow middle_of(std::vector<DepthwiseRow> visits);

/// Whether the visits on either side of the middle one are further apart than 3 %: more visits are worth
/// their time.
bool undecided(const std::vector<DepthwiseRow>& visits);

/// The peers that were too slow to be the best, so that later visits need not run them.
std::vector<std::string> hopeless_peers(const DepthwiseRow& row);

/// Plans, checks every candidate's result against the double reference, and only then times. Throws
/// core::Error(internal) naming the shape and the error where ours is outside its numerics class or a peer is
/// wrong.
DepthwiseRow measure_depthwise(const depthwise::Problem& problem, const DepthwiseOptions& options = {});

}  // namespace replk::bench
