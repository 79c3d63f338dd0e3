// row-spectral against the double reference: every kind of geometry, tiling, epilogue, type, layout and
// thread count.
#include "depthwise/row_spectral/row_spectral.hpp"

#include <gtest/gtest.h>

#include <cmath>

#include "core/cpu.hpp"
#include "depthwise/spectral/spectral.hpp"
#include "tests/depthwise/case.hpp"

namespace replk::depthwise {
namespace {

bool machine_has(Isa isa) {
  return core::cpu().isa >= isa;
}

/// Channel scales from 1e-3 to 1e3 side by side: an error that leaks into another channel cannot hide.
void scale_channels(Case& c) {
  const auto scale = [](int channel) { return std::pow(10.0f, static_cast<float>(channel % 7 - 3)); };
  for (std::size_t b = 0; b < c.problem.branches.size(); b++) {
    const int taps = c.problem.branches[b].taps();
    for (int channel = 0; channel < c.problem.channels; channel++)
      for (int t = 0; t < taps; t++)
        c.branch_weights[b][static_cast<std::size_t>(channel) * taps + t] *= scale(channel);
  }
  for (int channel = 0; channel < c.problem.channels; channel++) c.bias[channel] *= scale(channel);
}

double worst_of_allowed(const Case& c, const PlanOptions& options) {
  Storage dst = c.run(options);
  const auto samples = sampled_outputs(c.problem, 3000, 7);
  const Tensors tensors = c.tensors(dst);
  const auto expected = reference(c.problem, c.weights, c.bias, tensors, samples);
  return compare(c.problem, c.weights, c.bias, tensors, samples, expected).max_of_allowed;
}

PlanOptions with(const Tiling& tiling, int threads = 1) {
  PlanOptions options;
  options.tiling = tiling;
  options.threads = threads;
  return options;
}

/// Of both algorithms: they share everything but the column pass.
std::vector<Candidate> candidates(const Problem& problem) {
  std::vector<Candidate> all;
  for (const Algorithm* a : {&row_spectral_algorithm(), &spectral_algorithm()})
    for (Candidate& c : a->candidates(request_of(problem))) all.push_back(std::move(c));
  return all;
}

TEST(RowSpectral, EveryCandidateIsLegalParsesBackAndIsAccurate) {
  if (!machine_has(Isa::avx2)) GTEST_SKIP() << "no AVX2";
  for (const char* shape :
       {"n1c16h14w14k27", "n1c8h7w7k13", "n1c16h12w20k9x5", "n2c8h20w11k3x15", "n1c8h28w28k29",
        "n1c8h17w17k7s2", "n1c8h19w16k11s2x1p3x0", "n1c8h13w9k51x5,5x51,5x5", "n1c8h24w30k5d4"}) {
    for (const float mean : {0.0f, 1.0f}) {
      Case c(shape, 3, mean);
      scale_channels(c);
      const auto found = candidates(c.problem);
      ASSERT_FALSE(found.empty()) << shape;
      for (const Candidate& candidate : found) {
        ASSERT_EQ(Tiling::parse(candidate.tiling.to_string()), candidate.tiling);
        ASSERT_TRUE(legal(request_of(c.problem), candidate.tiling));
        EXPECT_GT(candidate.predicted_seconds, 0);
        EXPECT_LE(worst_of_allowed(c, with(candidate.tiling)), 1)
            << shape << " " << candidate.tiling.to_string();
      }
    }
  }
}

TEST(RowSpectral, RepLKNetShapesAreAccurate) {
  if (!machine_has(Isa::avx2)) GTEST_SKIP() << "no AVX2";
  for (const char* shape : {"n1c24h56w56k31", "n1c16h56w56k51x5", "n1c16h56w56k5x51", "n1c16h32w32k31",
                            "n1c8h96w96k31", "n1c8h56w56k7", "n1c8h48w48k29"}) {
    Case c(shape, 5, 1);
    scale_channels(c);
    const auto found = candidates(c.problem);
    ASSERT_FALSE(found.empty()) << shape;
    for (const Tiling& tiling : {found.front().tiling, found[found.size() / 2].tiling, found.back().tiling})
      EXPECT_LE(worst_of_allowed(c, with(tiling)), 1) << shape << " " << tiling.to_string();
  }
}

TEST(RowSpectral, LargeMapsAreCutIntoSegments) {
  if (!machine_has(Isa::avx2)) GTEST_SKIP() << "no AVX2";
  for (const char* shape : {"n1c8h200w60k31", "n1c8h60w200k31", "n1c8h150w170k13", "n1c8h40w260k3x51"}) {
    Case c(shape, 9, 1);
    const auto found = candidates(c.problem);
    ASSERT_FALSE(found.empty()) << shape;
    for (const Tiling& tiling : {found.front().tiling, found[found.size() / 2].tiling, found.back().tiling})
      EXPECT_LE(worst_of_allowed(c, with(tiling)), 1) << shape << " " << tiling.to_string();
  }
  Case c("n1c8h23w29k9x7+relu+residual", 2);
  for (const char* cuts : {" along=5", " across=4", " along=7 across=6", " along=29 across=23", " packed=1",
                           " along=7 across=6 packed=1", " ahead=1", " along=7 across=6 ahead=1"}) {
    const std::string tiling =
        std::string("row-spectral n=40 factors=5x8 axis=w rows=7 karatsuba=1 gauss=1 blocks=2") + cuts;
    EXPECT_LE(worst_of_allowed(c, with(Tiling::parse(tiling))), 1) << tiling;
  }
}

TEST(RowSpectral, PixelsThatCollideInTheCacheArePacked) {
  const auto packed = [](const char* shape) {
    int count = 0;
    for (const Candidate& c : candidates(parse(shape))) count += c.tiling.number("packed", 0);
    return count;
  };
  if (!machine_has(Isa::avx2)) GTEST_SKIP() << "no AVX2";
  EXPECT_GT(packed("n1c128h56w56k51x5"), 0);  // 28 KiB from pixel to pixel of a column
  EXPECT_EQ(packed("n1c128h56w56k5x51"), 0);
  EXPECT_EQ(packed("n1c124h56w56k51x5"), 0);
  Case c("n1c16h24w128k13x3+relu+residual", 8, 1);
  scale_channels(c);
  for (const char* way : {"", " packed=1"}) {
    const std::string tiling =
        std::string("row-spectral n=32 factors=32 axis=h rows=9 karatsuba=0 gauss=1 blocks=2") + way;
    EXPECT_LE(worst_of_allowed(c, with(Tiling::parse(tiling))), 1) << tiling;
  }
}

TEST(RowSpectral, RandomProblemsAreAccurate) {
  if (!machine_has(Isa::avx2)) GTEST_SKIP() << "no AVX2";
  int computed = 0;
  for (std::uint64_t seed = 1; seed <= 250; seed++) {
    Problem problem = random_problem(seed);
    problem.numerics = Numerics::fast;
    Case c(problem, seed, seed % 2 == 0 ? 1 : 0);
    scale_channels(c);
    const auto found = candidates(problem);
    if (found.empty()) continue;
    computed++;
    const Tiling& tiling = found[seed % found.size()].tiling;
    EXPECT_LE(worst_of_allowed(c, with(tiling)), 1)
        << "seed " << seed << ": " << to_string(problem) << " " << tiling.to_string();
  }
  EXPECT_GT(computed, 200);
}

TEST(RowSpectral, BitsDoNotDependOnTheNumberOfThreads) {
  if (!machine_has(Isa::avx2)) GTEST_SKIP() << "no AVX2";
  for (const char* shape :
       {"n1c40h14w14k13+gelu+residual", "n2c20h9w30k3x17", "n1c8h40w40k9", "n1c24h19w11k7nchw"}) {
    const Case c(shape, 11);
    const auto found = candidates(c.problem);
    for (const Tiling& tiling : {found.front().tiling, found.back().tiling}) {
      const Storage one = c.run(with(tiling, 1));
      for (const int threads : {2, 3, 8, 64})
        EXPECT_EQ(differing(one, c.run(with(tiling, threads))), 0) << shape << " " << threads;
    }
  }
}

TEST(RowSpectral, OneImageOf128ChannelsHasWorkFor64Threads) {
  if (!machine_has(Isa::avx2)) GTEST_SKIP() << "no AVX2";
  const Problem problem = parse("n1c128h56w56k31");
  const Case small("n1c128h9w10k7", 12);
  for (const Algorithm* algorithm : algorithms()) {
    const Request request = request_of(problem, core::cpu().isa, 64);
    if (algorithm->candidates(request, 1).empty() || algorithm->name() == "portable") continue;
    EXPECT_TRUE(some_candidate_has_work(*algorithm, request)) << algorithm->name();
  }
  for (const Candidate& candidate : candidates(small.problem)) {
    const Storage one = small.run(with(candidate.tiling, 1));
    EXPECT_EQ(differing(one, small.run(with(candidate.tiling, 64))), 0) << candidate.tiling.to_string();
  }
}

TEST(RowSpectral, ANanStaysInItsChannel) {
  if (!machine_has(Isa::avx2)) GTEST_SKIP() << "no AVX2";
  Case c("n1c16h10w10k7+relu", 4);
  const Tiling tiling = candidates(c.problem)[0].tiling;
  const Storage clean = c.run(with(tiling));
  c.src.set(5 * 16 + 3, std::nanf(""));
  const Storage poisoned = c.run(with(tiling));
  int nans = 0;
  for (std::int64_t i = 0; i < poisoned.elements(); i++) {
    if (i % 16 == 3)
      nans += std::isnan(poisoned.get(i));
    else
      EXPECT_EQ(poisoned.get(i), clean.get(i));
  }
  EXPECT_GT(nans, 0);
}

TEST(RowSpectral, RefusesWhatItCannotCompute) {
  const Problem p = parse("n1c8h20w20k9");
  const Request request = request_of(p, Isa::avx2);
  const auto legal = [&](const std::string& text) {
    return row_spectral_algorithm().read(request, Tiling::parse(text)) != nullptr;
  };
  EXPECT_TRUE(legal("row-spectral n=24 factors=8x3 axis=w rows=8 karatsuba=0 gauss=1 blocks=1"));
  EXPECT_FALSE(
      legal("row-spectral n=23 factors=23 axis=w rows=8 karatsuba=0 gauss=1 blocks=1"));  // would wrap
  EXPECT_FALSE(legal("row-spectral n=24 factors=8x4 axis=w rows=8 karatsuba=0 gauss=1 blocks=1"));
  EXPECT_FALSE(legal("row-spectral n=24 factors=8x3 axis=d rows=8 karatsuba=0 gauss=1 blocks=1"));
  EXPECT_FALSE(legal("row-spectral n=24 factors=8x3 axis=w rows=0 karatsuba=0 gauss=1 blocks=1"));
  EXPECT_FALSE(legal("row-spectral n=24 factors=8x3 axis=w rows=8 karatsuba=4 gauss=1 blocks=1"));
  EXPECT_FALSE(legal("row-spectral n=24 factors=8x3 axis=w rows=8 karatsuba=0 gauss=2 blocks=1"));
  EXPECT_FALSE(legal("row-spectral n=24 factors=8x3 axis=w rows=8 karatsuba=0 gauss=1 blocks=9"));
  EXPECT_FALSE(legal("row-spectral n=24 factors=8x3 axis=w rows=8 karatsuba=0 gauss=1"));
  EXPECT_TRUE(legal("row-spectral n=24 factors=8x3 axis=w rows=8 karatsuba=0 gauss=1 blocks=1 packed=1"));
  EXPECT_FALSE(legal("row-spectral n=24 factors=8x3 axis=w rows=8 karatsuba=0 gauss=1 blocks=1 packed=0"));
  EXPECT_FALSE(legal("row-spectral n=24 factors=8x3 axis=w rows=8 karatsuba=0 gauss=1 blocks=1 other=1"));
  Problem exact = p;
  exact.numerics = Numerics::exact;
  EXPECT_FALSE(row_spectral_algorithm().read(
      request_of(exact, Isa::avx2),
      Tiling::parse("row-spectral n=24 factors=8x3 axis=w rows=8 karatsuba=0 gauss=1 blocks=1")));
}

}  // namespace
}  // namespace replk::depthwise
