// The weight gradient against its double reference, its bits, and what must stay apart in it.
#include "depthwise/gradient/weight_gradient.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <numeric>

#include "tests/depthwise/gradient_case.hpp"

namespace replk::depthwise {
namespace {

const char* const generated[] = {"direct", "row-spectral"};

TEST(WeightGradient, ExactIsTheSumInDoubleRoundedOnce) {
  for (unsigned seed = 0; seed < 150; seed++) {
    const Problem p = plain(random_problem_with(seed * 37 % 128, seed, 9, 13), Numerics::exact);
    SCOPED_TRACE(to_string(p));
    const GradientCase c(p, seed);
    PlanOptions options;
    options.threads = 1 + static_cast<int>(seed % 3);
    const WeightGradient gradient(p, options);
    ASSERT_EQ(gradient.tiling().algorithm, "portable");
    Gradients g(p);
    gradient.run(g.tensors(c), false);
    std::vector<int> all(static_cast<std::size_t>(p.channels));
    std::iota(all.begin(), all.end(), 0);
    const WeightReference expected = weight_reference(p, c.src.data(), c.dy.data(), all);
    for (std::size_t i = 0; i < p.branches.size(); i++)
      for (std::size_t t = 0; t < g.dweights[i].size(); t++)
        ASSERT_EQ(g.dweights[i][t], static_cast<float>(expected.dweights[i][t])) << i << " " << t;
    for (std::size_t ch = 0; ch < g.dbias.size(); ch++)
      ASSERT_EQ(g.dbias[ch], static_cast<float>(expected.dbias[ch]));
  }
}

/// Seeded problems with every option, each by one of the algorithm's tilings.
void expect_near_the_reference(std::string_view algorithm, unsigned problems, double least_share) {
  for (const Isa isa : generated_isas()) {
    int computed = 0;
    double worst = 0;
    for (unsigned seed = 0; seed < problems; seed++) {
      const Problem p = plain(random_problem_with(seed * 37 % 128, seed, 17, 29), Numerics::fast);
      SCOPED_TRACE(to_string(p));
      const auto options = some_tiling(algorithm, p, isa, 1 + static_cast<int>(seed % 3), seed);
      if (!options) continue;
      computed++;
      const GradientCase c(p, seed, seed % 5 == 0 ? 3.0f : 0.0f);
      SCOPED_TRACE(options->tiling->to_string());
      Gradients g(p);
      WeightGradient(p, *options).run(g.tensors(c), false);
      const double error = g.error(c);
      worst = std::max(worst, error);
      ASSERT_LE(error, 2e-6);
    }
    std::printf("%s, %s: %d of %u problems, worst error %.2e of the channel's largest gradient\n",
                std::string(algorithm).c_str(), std::string(name(isa)).c_str(), computed, problems, worst);
    EXPECT_GE(computed, least_share * problems);
  }
}

TEST(WeightGradient, RowSpectralIsNearTheReference) {
  expect_near_the_reference("row-spectral", 700, 0.4);
}

TEST(WeightGradient, DirectIsNearTheReference) {
  expect_near_the_reference("direct", 700, 0.9);
}

/// Shapes of networks, and maps that are cut into segments.
TEST(WeightGradient, EveryCandidateOfTypicalShapes) {
  for (const char* shape :
       {"n1c16h56w56k31", "n2c32h28w28k29", "n1c40h14w14k27", "n3c24h7w7k13", "n2c19h20w22k7,5x3,3",
        "n1c17h24w24k51x5,5x51,5x5", "n1c16h130w30k7", "n2c8h30w140k9nchw", "n1c16h20w20k5d3,3d2,13",
        "n1c16h33w31k7s2bf16", "n1c8x2h18w18k3s3", "n2c16h40w40k1x31", "n1c16h12w12k31"})
    for (const Isa isa : generated_isas())
      for (const char* algorithm : generated) {
        const Problem p = parse(shape);
        const GradientCase c(p, 5);
        for (const Candidate& each :
             find_weight_algorithm(algorithm)->candidates(p, merged_geometry(p), isa, 1, 5)) {
          SCOPED_TRACE(fmt::format("{} {} {}", shape, name(isa), each.tiling.to_string()));
          PlanOptions options;
          options.threads = 1;
          options.isa = isa;
          options.tiling = each.tiling;
          Gradients g(p);
          WeightGradient(p, options).run(g.tensors(c), false);
          ASSERT_LE(g.error(c), 2e-6);
        }
      }
}

/// A sum has the same order on any number of threads, also where the batch is cut into slices.
TEST(WeightGradient, BitsDoNotDependOnThreads) {
  for (const char* shape :
       {"n9c16h14w14k13", "n16c8h9w9k7", "n5c40h8w12k3", "n2c70h16w16k9,3", "n33c4h7w7k5"})
    for (const char* algorithm : {"portable", "direct", "row-spectral"}) {
      const Problem p = parse(shape);
      const GradientCase c(p, 2);
      auto options = some_tiling(algorithm, p, core::cpu().isa, 1, 0);
      if (!options) continue;  // row-spectral of 3x3
      Gradients one(p);
      WeightGradient(p, *options).run(one.tensors(c), false);
      for (const int threads : {2, 3, 5, 8}) {
        options->threads = threads;
        Gradients more(p);
        WeightGradient(p, *options).run(more.tensors(c), false);
        EXPECT_TRUE(one.same_bits(more)) << shape << " " << algorithm << " " << threads;
      }
    }
}

/// The slices and what is summed before the way back are cut by the plan and the batch of the run.
TEST(WeightGradient, AnyBatchRunsInAPlan) {
  for (const char* algorithm : {"portable", "direct", "row-spectral"})
    for (const int planned : {1, 3, 40})
      for (const int batch : {1, 2, 7, 19}) {
        Problem p = parse("n1c20h9w11k7"), run = p;
        p.batch = planned;
        run.batch = batch;
        const GradientCase c(run, 3);
        const auto options = some_tiling(algorithm, p, core::cpu().isa, 2, 1);
        ASSERT_TRUE(options);
        Gradients g(run);
        WeightGradient(p, *options).run(g.tensors(c), false, {.batch = batch});
        EXPECT_LE(g.error(c), 2e-6) << algorithm << " " << planned << " " << batch;
      }
}

TEST(WeightGradient, AccumulateAddsToWhatIsThere) {
  for (const char* shape : {"n2c19h9w11k7,3", "n8c16h7w7k13", "n1c33h12w12k31", "n3c9h8w8k3s2nchw"})
    for (const char* algorithm : {"portable", "direct", "row-spectral"}) {
      const Problem p = parse(shape);
      const GradientCase c(p, 4);
      const auto options = some_tiling(algorithm, p, core::cpu().isa, 2, 0);
      if (!options) continue;
      const WeightGradient gradient(p, *options);
      Gradients plain(p), sum(p, 0.75f);
      gradient.run(plain.tensors(c), false);
      gradient.run(sum.tensors(c), true);
      for (auto& each : plain.dweights)
        for (float& value : each) value += 0.75f;
      for (float& value : plain.dbias) value += 0.75f;
      EXPECT_TRUE(plain.same_bits(sum)) << shape << " " << algorithm;
    }
}

TEST(WeightGradient, WhatIsNotWantedIsNotWritten) {
  const Problem p = parse("n2c19h9w11k7,3,5x1");
  const GradientCase c(p, 4);
  for (const char* algorithm : {"portable", "direct", "row-spectral"}) {
    const auto options = some_tiling(algorithm, p, core::cpu().isa, 2, 0);
    ASSERT_TRUE(options);
    const WeightGradient gradient(p, *options);
    Gradients all(p), some(p, 7.0f);
    gradient.run(all.tensors(c), false);
    WeightGradientTensors tensors = some.tensors(c);
    const std::vector<float*> pointers{nullptr, some.pointers[1], nullptr};
    tensors.dweights = pointers;
    tensors.dbias = nullptr;
    gradient.run(tensors, false);
    EXPECT_EQ(some.dweights[0], std::vector<float>(some.dweights[0].size(), 7.0f));
    EXPECT_EQ(some.dweights[2], std::vector<float>(some.dweights[2].size(), 7.0f));
    EXPECT_EQ(some.dbias, std::vector<float>(some.dbias.size(), 7.0f));
    EXPECT_EQ(some.dweights[1], all.dweights[1]);
  }
}

/// A NaN reaches what it must, and of other channels no bit.
TEST(WeightGradient, ANaNStaysInItsChannel) {
  for (const char* shape : {"n2c19h9w11k7", "n1c33h8w8k5x3nchw", "n5c8x2h9w9k9"})
    for (const char* algorithm : {"portable", "direct", "row-spectral"})
      for (const bool in_dy : {false, true}) {
        const Problem p = parse(shape);
        const auto options = some_tiling(algorithm, p, core::cpu().isa, 2, 0);
        ASSERT_TRUE(options);
        GradientCase c(p, 6);
        const WeightGradient gradient(p, *options);
        Gradients clean(p), got(p);
        gradient.run(clean.tensors(c), false);
        const int channel = 5;  // of the tensor it is put into, in the middle of its map
        const Strides s = in_dy ? p.output_strides() : p.input_strides();
        (in_dy ? c.dy : c.src).set(channel * s.channel + 4 * s.row + 4 * s.pixel, std::nanf(""));
        gradient.run(got.tensors(c), false);
        const int taps = p.branches[0].taps();
        for (int ch = 0; ch < p.channels; ch++) {
          SCOPED_TRACE(fmt::format("{} {} dy={} channel {}", shape, algorithm, in_dy, ch));
          const bool hit = (in_dy ? ch : ch / p.multiplier) == channel;
          const auto at = clean.dweights[0].begin() + ch * taps, now = got.dweights[0].begin() + ch * taps;
          if (!hit)
            EXPECT_TRUE(std::equal(at, at + taps, now));
          else
            EXPECT_TRUE(std::isnan(now[taps / 2]));
          EXPECT_EQ(std::isnan(got.dbias[ch]), hit && in_dy);
        }
      }
}

/// Numbers whose sums overflow on the way, of results that are finite.
TEST(WeightGradient, OverflowOnTheWayIsComputedAnew) {
  for (const char* shape : {"n1c19h8w16k5", "n9c16h8w16k7"})
    for (const char* algorithm : generated)
      for (const bool accumulate : {false, true}) {
        const Problem p = parse(shape);
        GradientCase c(p, 7);
        const int channel = 3;
        const Strides in = p.input_strides();
        c.for_each_output([&](std::int64_t at, int ch) {
          if (ch == channel) c.dy.set(at, 1);
        });
        for (std::int64_t n = 0; n < p.batch; n++)
          for (int y = 0; y < p.height; y++)
            for (int x = 0; x < p.width; x++)
              c.src.set(n * in.image + y * in.row + x * in.pixel + channel * in.channel,
                        (x / 4 + y + n) % 2 == 0 ? 1e38f : -1e38f);
        const auto options = some_tiling(algorithm, p, core::cpu().isa, 1, 0);
        ASSERT_TRUE(options);
        // Far beyond what an error may be, and not so large that results overflow.
        const float before = 1e36f;
        Gradients g(p, before);
        WeightGradient(p, *options).run(g.tensors(c), accumulate);
        const WeightReference expected = weight_reference(p, c.src.data(), c.dy.data(), {channel});
        int finite = 0;
        for (int t = 0; t < p.branches[0].taps(); t++) {
          const double wanted = expected.dweights[0][t] + (accumulate ? before : 0);
          const float got = g.dweights[0][channel * p.branches[0].taps() + t];
          if (std::isinf(static_cast<float>(wanted))) continue;
          finite++;
          EXPECT_NEAR(got, wanted, 1e-6 * std::fabs(wanted) + 1e32) << shape << algorithm << t;
        }
        EXPECT_GT(finite, 0);
      }
}

/// What a cache remembers of a near problem is judged for this one; a tiling that is legal computes it.
TEST(WeightGradient, TilingsOfOtherProblemsAreJudged) {
  const char* const shapes[] = {"n1c16h56w56k7",  "n1c64h14w14k13",   "n2c16h7w7k13",
                                "n1c16h12w130k9", "n1c8h20w20k5x3s2", "n3c9h30w30k51x5,5x51"};
  const Isa isa = core::cpu().isa;
  int legal = 0;
  for (const char* from : shapes)
    for (const char* to : shapes)
      for (const WeightAlgorithm* a : weight_algorithms())
        for (const Candidate& each : a->candidates(parse(from), merged_geometry(parse(from)), isa, 1, 6)) {
          const Problem p = parse(to);
          if (!a->legal(p, merged_geometry(p), each.tiling, isa)) continue;
          legal++;
          if (legal % 4) continue;
          PlanOptions options;
          options.threads = 1;
          options.tiling = each.tiling;
          const GradientCase c(p);
          Gradients g(p);
          WeightGradient(p, options).run(g.tensors(c), false);
          ASSERT_LE(g.error(c), 2e-6) << to << " " << each.tiling.to_string();
        }
  EXPECT_GT(legal, 50);
}

TEST(WeightGradient, WhatHasNoGradientIsAnError) {
  for (const char* shape : {"n1c8h9w9k3+relu", "n1c8h9w9k3+scale", "n1c8h9w9k3+residual", "n1c8h9w9k3narrow",
                            "n1c8h9w9k3u8", "n1c8h9w9k3fp32>bf16"})
    EXPECT_THROW(WeightGradient{parse(shape)}, core::Error) << shape;
}

TEST(WeightGradient, AbsentTensorsAreAnError) {
  const Problem p = parse("n1c8h9w9k3");
  const GradientCase c(p);
  const WeightGradient gradient(p);
  Gradients g(p);
  WeightGradientTensors tensors = g.tensors(c);
  tensors.dy = nullptr;
  EXPECT_THROW(gradient.run(tensors, false), core::Error);
  tensors = g.tensors(c);
  tensors.dweights = {};
  EXPECT_THROW(gradient.run(tensors, false), core::Error);
}

}  // namespace
}  // namespace replk::depthwise
