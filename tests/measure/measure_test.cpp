// The measuring code: that it runs what it says, names every peer, and refuses to time what is wrong. Never
// how fast.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <functional>
#include <string>
#include <thread>
#include <utility>

#include "core/error.hpp"
#include "measure/depthwise.hpp"
#include "measure/gradient.hpp"
#include "measure/peers.hpp"
#include "measure/race.hpp"

namespace replk::bench {
namespace {

/// Exactly so many rounds (the seconds are for slow rivals), each turn one warm and one timed run.
RaceOptions single_runs(int rounds, double seconds, double slow) {
  return {.rounds = rounds,
          .max_rounds = rounds,
          .seconds = seconds,
          .slow = slow,
          .warm_seconds = 0,
          .slot_seconds = 0,
          .seed = 1};
}

DepthwiseOptions quick() {
  DepthwiseOptions options;
  options.threads = 1;
  options.race = single_runs(2, 0, 3);
  return options;
}

TEST(Race, InterleavesAndTimesTheSlowOnce) {
  std::string calls;
  const auto work = [&](char name, int ms) {
    return [&calls, name, ms] {
      calls += name;
      std::this_thread::sleep_for(std::chrono::milliseconds(ms));
    };
  };
  const auto times =
      race({work('a', 5), work('b', 5), work('s', 400)},  // far apart, for a machine that is busy otherwise
           single_runs(15, 0, 10));
  ASSERT_EQ(times.size(), 3u);
  EXPECT_EQ(times[0].seconds.size(), 15u);
  EXPECT_EQ(times[1].seconds.size(), 15u);
  EXPECT_EQ(times[2].seconds.size(), 1u);
  EXPECT_EQ(std::count(calls.begin(), calls.end(), 's'), 1);
  // A turn is a warm and a timed run; both orders of a and b occur.
  EXPECT_NE(calls.find("aabb"), std::string::npos);
  EXPECT_NE(calls.find("bbaa"), std::string::npos);
}

std::function<void()> sleep(int ms) {
  return [ms] { std::this_thread::sleep_for(std::chrono::milliseconds(ms)); };
}

TEST(Race, ASlowRivalThatMayBeTheBestGetsTheTurnsThatFit) {
  const auto times = race({sleep(1), sleep(100), sleep(1000)}, single_runs(15, 2, 5));
  EXPECT_EQ(times[0].seconds.size(), 15u);
  EXPECT_GE(times[1].seconds.size(), 2u);
  EXPECT_LE(times[1].seconds.size(), 4u);
  EXPECT_EQ(times[2].seconds.size(), 1u);
}

TEST(Race, OursHasEveryTurnThoughARivalDoesAPartInNoTime) {
  const auto times = race({sleep(20), sleep(1), sleep(100)}, single_runs(6, 10, 3), {0, 0, 1});
  EXPECT_EQ(times[0].seconds.size(), 6u);
  EXPECT_EQ(times[1].seconds.size(), 6u);
  EXPECT_EQ(times[2].seconds.size(), 6u);  // alone in its part
}

TEST(Race, MedianOfEvenAndOddCounts) {
  EXPECT_DOUBLE_EQ((Times{{3, 1, 2}}.median()), 2);
  EXPECT_DOUBLE_EQ((Times{{4, 1, 2, 9}}.median()), 3);
}

TEST(MeasureDepthwise, EveryLayoutIsNamedAndChecked) {
  const DepthwiseRow row = measure_depthwise(depthwise::parse("n2c19h9w12k7x5s2x1+relu+residual"), quick());
  ASSERT_EQ(row.peers.size(), 3u);
  EXPECT_EQ(row.peers[0].name, "onednn nhwc");
  EXPECT_EQ(row.peers[1].name, "onednn blocked");
  EXPECT_EQ(row.peers[2].name, "onednn nchw");
  for (const PeerTime& peer : row.peers) EXPECT_FALSE(peer.implementation.empty());
  EXPECT_GT(row.ms, 0);
  EXPECT_GT(row.peak_gflops, 0);
  EXPECT_LE(row.max_of_allowed, 1);
  EXPECT_EQ(row.checked_outputs, 2 * 19 * 5 * 12);
  EXPECT_EQ(row.shape, "n2c19h9w12k7x5s2x1+relu+residual");
}

TEST(MeasureDepthwise, ReferenceCodeIsListedAndNotRun) {
  // A kernel as wide as this on a blocked layout: oneDNN has its reference code only, on any instruction set.
  const DepthwiseRow row = measure_depthwise(depthwise::parse("n1c16h14w14k5x31"), quick());
  const PeerTime& blocked = row.peers.at(1);
  ASSERT_NE(blocked.implementation.find("ref"), std::string::npos);
  EXPECT_FALSE(blocked.ms.has_value());
  EXPECT_NE(row.best_peer.value_or(""), blocked.name);
}

TEST(MeasureDepthwise, BranchesAreMergedAndSummed) {
  const DepthwiseRow row = measure_depthwise(depthwise::parse("n1c16h14w14k9x3,3x9,3+gelu"), quick());
  const auto has = [&](const std::string& name) {
    return std::any_of(row.peers.begin(), row.peers.end(), [&](const PeerTime& p) { return p.name == name; });
  };
  EXPECT_TRUE(has("onednn nhwc merged"));
  EXPECT_TRUE(has("onednn nhwc k9x3"));
  EXPECT_TRUE(has("onednn nhwc k3x9"));
  double sum = 0;
  for (const std::string branch : {" k9x3", " k3x9", " k3x3"}) {
    double least = HUGE_VAL;
    for (const PeerTime& peer : row.peers)
      if (counts(peer) && peer.name.ends_with(branch)) least = std::min(least, *peer.ms);
    sum += least;
  }
  const auto summed = std::find_if(row.peers.begin(), row.peers.end(),
                                   [](const PeerTime& p) { return p.name == "onednn sum of branches"; });
  ASSERT_EQ(summed != row.peers.end(), sum < HUGE_VAL);
  if (summed != row.peers.end()) {
    EXPECT_DOUBLE_EQ(*summed->ms, sum) << "of the best of each branch";
  }
  if (row.best_peer) {
    EXPECT_DOUBLE_EQ(*row.ratio, *row.best_peer_ms / row.ms);
  }
  const std::string best = row.best_peer.value_or("onednn sum of branches");
  EXPECT_TRUE(best.ends_with("merged") || best == "onednn sum of branches") << best;
}

TEST(MeasureDepthwise, ShortTypesAreCheckedAndComparedInTheirOwn) {
  for (const std::string shape :
       {"n1c16h14w14k7bf16", "n1c16h14w14k7fp16+relu", "n1c16h14w14k5x3,3x5bf16nchw"}) {
    const DepthwiseRow row = measure_depthwise(depthwise::parse(shape), quick());
    EXPECT_LE(row.max_of_allowed, 1) << shape;
    EXPECT_GT(row.max_relative_error, 1e-6) << shape << ": the type's own rounding shows";
    ASSERT_GE(row.peers.size(), 3u) << shape;
    if (row.ratio) continue;  // a CPU for which oneDNN has code
    EXPECT_FALSE(row.best_peer.has_value());
    EXPECT_NE(row.note.find("fp32"), std::string::npos) << row.note;
    EXPECT_TRUE(std::any_of(row.peers.begin(), row.peers.end(), [](const PeerTime& p) {
      return p.ms && p.name.ends_with(" fp32");
    })) << shape;
  }
}

TEST(MeasureDepthwise, AWrongShortResultIsRefused) {
  DepthwiseOptions options = quick();
  options.peers = false;
  options.spoil = [](std::span<std::byte> dst) {
    dst[dst.size() - 2] ^= std::byte{0x04};
  };  // 4 units in the last place
  EXPECT_THROW(measure_depthwise(depthwise::parse("n1c16h14w14k7bf16"), options), core::Error);
}

TEST(MeasureDepthwise, APeerThatIsSkippedIsListedAndGemmMayBeToo) {
  DepthwiseOptions options = quick();
  options.skipped_peers = {"onednn nhwc"};
  options.gemm_macs = 1;
  const DepthwiseRow row = measure_depthwise(depthwise::parse("n1c16h14w14k7"), options);
  ASSERT_EQ(row.peers.size(), 3u);
  EXPECT_FALSE(row.peers[0].ms.has_value());
  EXPECT_NE(row.best_peer.value_or(""), "onednn nhwc");
  for (const PeerTime& peer : row.peers) {
    if (peer.implementation.find("gemm") != std::string::npos) {
      EXPECT_FALSE(peer.ms.has_value());
    }
  }
}

TEST(MeasureDepthwise, BothSidesAreTimedColdWhereAskedFor) {
  DepthwiseOptions options = quick();
  const depthwise::Problem problem = depthwise::parse("n1c16h14w14k7");
  EXPECT_EQ(measure_depthwise(problem, options).best_peer_ms_cold, std::nullopt);
  options.cold_rounds = 1;
  const DepthwiseRow row = measure_depthwise(problem, options);
  EXPECT_GT(row.ms_cold, 0);
  double best = HUGE_VAL;
  for (const PeerTime& peer : row.peers) {
    if (peer.name == row.best_peer) {
      EXPECT_TRUE(peer.ms_cold.has_value());
    }
    if (!counts(peer)) {
      EXPECT_FALSE(peer.ms_cold.has_value()) << peer.name;
    }
    best = std::min(best, peer.ms_cold.value_or(HUGE_VAL));
  }
  EXPECT_EQ(row.best_peer_ms_cold.value_or(HUGE_VAL), best);
}

TEST(MeasureDepthwise, HopelessPeersAreFarBehindOneOfTheSameConvolution) {
  DepthwiseRow row;
  row.peers = {{"onednn nhwc merged", "brgdmm", 1.0, {}},  {"onednn blocked merged", "jit", 2.9, {}},
               {"onednn nchw merged", "gemm", 0.5, {}},    {"onednn nhwc k5x3", "brgdmm", 40.0, {}},
               {"onednn blocked k5x3", "jit", 10.0, {}},   {"onednn nchw k5x3", "ref:any", {}, {}},
               {"onednn sum of branches", "jit", 10.0, {}}};
  EXPECT_EQ(hopeless_peers(row),
            (std::vector<std::string>{"onednn nchw merged", "onednn nhwc k5x3", "onednn nchw k5x3"}));
}

TEST(MeasureDepthwise, WhatOnlyTheFirstVisitMeasuredIsKept) {
  std::vector<DepthwiseRow> visits(3);
  for (std::size_t i = 0; i < visits.size(); i++) {
    visits[i].ratio = std::vector<double>{2.0, 5.0, 3.0}[i];
    visits[i].peers = {{"onednn nhwc", "brgdmm", 1.0, {}}, {"onednn nchw", "gemm", {}, {}}};
  }
  visits[0].ms_cold = 7;
  visits[0].best_peer_ms_cold = 11;
  visits[0].peers[0].ms_cold = 11;
  visits[0].peers[0].ms = 9;
  visits[0].peers[1].ms = 100;
  const DepthwiseRow row = middle_of(std::move(visits));
  EXPECT_EQ(row.ms_cold, 7);
  EXPECT_EQ(row.best_peer_ms_cold, 11.0);
  EXPECT_EQ(row.peers[0].ms_cold, 11.0);
  EXPECT_EQ(row.peers[0].ms, 1.0);
  EXPECT_EQ(row.peers[1].ms, 100.0);
}

TEST(MeasureDepthwise, TheMiddleVisitCounts) {
  std::vector<DepthwiseRow> visits(3);
  for (std::size_t i = 0; i < visits.size(); i++) {
    visits[i].ratio = std::vector<double>{2.0, 5.0, 3.0}[i];
    visits[i].ms = 10 * *visits[i].ratio;
    visits[i].best_peer_ms = visits[i].ms * *visits[i].ratio;
  }
  visits[0].source = "measured";
  const DepthwiseRow row = middle_of(std::move(visits));
  EXPECT_EQ(*row.ratio, 3.0);
  EXPECT_EQ(row.ms, 30.0);
  EXPECT_EQ(row.source, "measured");
  ASSERT_EQ(row.visits.size(), 3u);
  for (std::size_t i = 0; i < 3; i++) {
    EXPECT_EQ(row.visits[i].ms, (std::vector<double>{20, 50, 30})[i]);
    EXPECT_EQ(row.visits[i].best_peer_ms, (std::vector<double>{40, 250, 90})[i]);
  }
}

TEST(MeasureDepthwise, VisitsThatDisagreeAboutTheMiddleAreUndecided) {
  const auto told = [](const std::vector<double>& ratios) {
    std::vector<DepthwiseRow> visits(ratios.size());
    for (std::size_t i = 0; i < ratios.size(); i++) visits[i].ratio = ratios[i];
    return undecided(visits);
  };
  EXPECT_FALSE(told({2.0}));
  EXPECT_FALSE(told({2.02, 2.0, 2.01}));
  EXPECT_TRUE(told({2.0, 2.1, 2.01}));
  EXPECT_FALSE(told({2.0, 2.1, 2.01, 2.02, 1.5}));
  EXPECT_TRUE(told({2.0, 2.2, 2.1, 2.15, 1.5}));
}

TEST(MeasureDepthwise, AWrongResultIsNeverTimed) {
  DepthwiseOptions options = quick();
  for (const float wrong : {1e-3f, std::numeric_limits<float>::quiet_NaN()}) {
    options.spoil = [wrong](std::span<std::byte> dst) {
      reinterpret_cast<float*>(dst.data() + dst.size())[-1] += wrong;
    };
    try {
      measure_depthwise(depthwise::parse("n1c16h14w14k7"), options);
      ADD_FAILURE() << "a result off by " << wrong << " was accepted";
    } catch (const core::Error& error) {
      EXPECT_EQ(error.status(), core::Status::internal);
      EXPECT_NE(std::string(error.what()).find("not timed"), std::string::npos) << error.what();
    }
  }
}

TEST(MeasureGradient, AWrongResultIsNeverTimed) {
  GradientOptions options;
  options.threads = 1;
  options.race = single_runs(2, 0, 3);
  const depthwise::Problem problem = depthwise::parse("n2c16h14w14k7");
  const GradientRow row = measure_gradient(problem, options);
  EXPECT_LT(row.input_gradient_error, 1e-6);
  EXPECT_LT(row.weight_gradient_error, 1e-6);
  EXPECT_GT(row.forward_ms, 0);
  const std::pair<std::function<void(const Gradients&)>, std::string> wrong[] = {
      {[](const Gradients& made) { made.dx.front() += 1; }, "gradient of the input"},
      {[](const Gradients& made) { made.dx.back() += 1; }, "gradient of the input"},  // the last image's
      {[](const Gradients& made) { made.dweights.front() += 1; }, "gradient of the weights"},
      {[](const Gradients& made) { made.dweights.back() += 1; }, "gradient of the weights"},
      {[](const Gradients& made) { made.dbias.back() += 1; }, "gradient of the weights"}};
  for (const auto& [spoil, which] : wrong) {
    options.spoil = spoil;
    try {
      measure_gradient(problem, options);
      ADD_FAILURE() << "a wrong " << which << " was accepted";
    } catch (const core::Error& error) {
      EXPECT_EQ(error.status(), core::Status::internal);
      EXPECT_NE(std::string(error.what()).find(which), std::string::npos) << error.what();
    }
  }
}

}  // namespace
}  // namespace replk::bench
