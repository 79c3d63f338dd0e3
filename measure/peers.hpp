// What a depthwise problem is compared with: oneDNN's layouts for it, or for the convolutions that it is the
// sum of.
#pragma once
#include <memory>
#include <string>
#include <vector>

#include "measure/data.hpp"
#include "measure/depthwise.hpp"
#include "measure/onednn/depthwise.hpp"

namespace replk::bench {

/// One convolution in each of oneDNN's layouts.
struct PeerGroup {
  enum class Role {
    whole,   // does all the work
    branch,  // one of several branches, to be added up
    wider,   // all the work on fp32 tensors, where the problem's are shorter: shown, never the best
  } role = Role::whole;
  std::vector<std::unique_ptr<OnednnDepthwise>> peers;
  std::vector<PeerTime> times;  // of `peers`, in their order; ms is there already where one run was enough
  std::vector<bool> raced;      // of `peers`: is right and to be timed
};

/// Slower than this many times the fastest peer is not timed again.
constexpr double kHopeless = 3;

/// Whether a peer's time may be the best one: it has run, and is not gemm code.
bool counts(const PeerTime& peer);

/// Made, run and checked against the double reference, but not timed yet. `data` is the problem's; its dst is
/// overwritten. Throws core::Error(internal) where a peer is wrong.
std::vector<PeerGroup> checked_peers(const depthwise::Problem& problem, Data& data, int threads,
                                     const DepthwiseOptions& options);

/// Fills in peers, best peer, ratio and note from the groups' times.
void compare_with_peers(const depthwise::Problem& problem, const std::vector<PeerGroup>& groups,
                        DepthwiseRow& row);

}  // namespace replk::bench
