// Both gradients where nothing can hide: src, dy, dx, the weights, their gradients, the bias', the workspace
// and what a plan holds lie between inaccessible pages, at every alignment; around them, in all registers and
// on the stack are NaNs. Then NaNs within tensors, which must stay where they are.
//
// REPLK_SWEEP: quick (the default) or long.
#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <limits>
#include <map>
#include <memory>
#include <numeric>
#include <optional>
#include <string>

#include "core/memory.hpp"
#include "depthwise/choose/choice.hpp"
#include "depthwise/gradient/input_reference.hpp"
#include "depthwise/gradient/weight_algorithm.hpp"
#include "depthwise/gradient/weight_reference.hpp"
#include "depthwise/problem/reader.hpp"
#include "tests/depthwise/training_case.hpp"
#include "tests/guarded.hpp"

namespace replk::depthwise {
namespace {

using test::Guarded;
using test::Side;

int sweep(int quick, int more) {
  const char* given = std::getenv("REPLK_SWEEP");
  return given && std::string(given) == "long" ? more : quick;
}

std::unique_ptr<Guarded> guarded(const void* data, std::size_t bytes, Side side, std::size_t gap) {
  auto memory = std::make_unique<Guarded>(bytes, side, gap);
  if (bytes > 0) std::memcpy(memory->as(), data, bytes);
  return memory;
}

double taps_of(const Problem& p) {
  double taps = 0;
  for (const Branch& b : p.branches) taps += b.taps();
  return taps;
}

/// What class fast errs by where the largest gradient is lost in cancellation: compared by weight_error()
/// over the largest, so that it allows more there.
double allowed_weight_error(const WeightReference& expected, const TrainingCase& c) {
  if (c.problem.numerics == Numerics::exact) return 1.2e-7;
  double allowed = 1e-6;
  const Problem& p = c.problem;
  const Reader src(p.type, p.input_strides(), c.src.data()), dy(p.type, p.output_strides(), c.dy.data());
  for (std::size_t i = 0; i < expected.channels.size(); i++) {
    const int o = expected.channels[i];
    double x2 = 0, y2 = 0;
    for (std::int64_t n = 0; n < p.batch; n++) {
      for (int y = 0; y < p.height; y++)
        for (int x = 0; x < p.width; x++) x2 += std::pow(src(n, o / p.multiplier, y, x), 2);
      for (int y = 0; y < p.out_height(); y++)
        for (int x = 0; x < p.out_width(); x++) y2 += std::pow(dy(n, o, y, x), 2);
    }
    if (expected.largest[i] > 0)
      allowed = std::max(allowed, std::ldexp(std::sqrt(x2 * y2), -24) / expected.largest[i]);
  }
  return allowed;
}

class GradientGuard : public testing::Test {
 protected:
  /// An input gradient with everything at `side`; whether this algorithm can do every class of it.
  bool input(const TrainingCase& c, const std::optional<std::string>& algorithm, Side side, int gap) {
    const Problem& p = c.problem;
    const std::size_t size = size_of(p.type);
    std::vector<std::unique_ptr<Guarded>> weights;
    std::vector<std::span<const float>> spans;
    for (const auto& w : c.branch_weights) {
      weights.push_back(guarded(w.data(), 4 * w.size(), side, 4 * ((gap + 2) % 16)));
      spans.emplace_back(weights.back()->as<const float>(), w.size());
    }
    test::guard_heap(side);
    PlanOptions options;
    options.threads = 1 + runs_ % 3;
    options.algorithm = algorithm;
    Problem planned = p;  // the batch is the run's
    planned.batch = 1 + runs_ % 3;
    std::optional<InputGradient> gradient;
    try {
      gradient.emplace(planned, spans, options);
    } catch (const core::Error&) {
      if (!algorithm) throw;
      return false;
    }
    const auto dy = guarded(c.dy.data(), c.dy.bytes(), side, gap * size);
    const Guarded dx(static_cast<std::size_t>(p.input_elements()) * size, side, (gap + 5) % 16 * size),
        workspace(core::round_up(gradient->workspace_bytes(), core::alignment), side);
    test::poison();
    gradient->run(dy->as(), dx.as(), {.batch = p.batch, .workspace = workspace.as()});
    const Accuracy accuracy = input_error(p, input_reference(p, c.weights, c.dy.data()), dx.as());
    EXPECT_LE(accuracy.max_of_allowed, p.numerics == Numerics::fast ? 1 : taps_of(p) * p.multiplier);
    EXPECT_TRUE(dx.intact()) << "around dx";
    EXPECT_TRUE(workspace.intact()) << "around the workspace";
    EXPECT_EQ(std::memcmp(dy->as(), c.dy.data(), c.dy.bytes()), 0) << "dy changed";
    EXPECT_TRUE(gaps_intact(p, dx.as<const unsigned char>())) << "between the elements of dx";
    runs_++;
    return true;
  }

  /// What lies between the elements of dx is as it was: NaNs.
  static bool gaps_intact(const Problem& p, const unsigned char* dx) {
    const std::size_t size = size_of(p.type);
    std::vector<bool> own(static_cast<std::size_t>(p.input_elements()));
    const Strides at = p.input_strides();
    for (std::int64_t n = 0; n < p.batch; n++)
      for (int y = 0; y < p.height; y++)
        for (int x = 0; x < p.width; x++)
          for (int c = 0; c < p.input_channels(); c++)
            own[n * at.image + y * at.row + x * at.pixel + c * at.channel] = true;
    for (std::size_t i = 0; i < own.size() * size; i++)
      if (!own[i / size] && dx[i] != 0xff) return false;
    return true;
  }

  void weights(const TrainingCase& c, const std::optional<Tiling>& tiling, Side side, int gap) {
    const Problem& p = c.problem;
    const std::size_t size = size_of(p.type);
    test::guard_heap(side);
    PlanOptions options;
    options.threads = 1 + runs_ % 3;
    options.tiling = tiling;
    Problem planned = p;
    planned.batch = 1 + runs_ % 3;
    const WeightGradient gradient(planned, options);
    const auto src = guarded(c.src.data(), c.src.bytes(), side, gap * size),
               dy = guarded(c.dy.data(), c.dy.bytes(), side, (gap + 7) % 16 * size);
    std::vector<std::unique_ptr<Guarded>> results;
    std::vector<float*> pointers;
    for (const Branch& b : p.branches) {
      results.push_back(std::make_unique<Guarded>(sizeof(float) * p.channels * b.taps(), side,
                                                  (gap + 3 * results.size()) % 16 * sizeof(float)));
      pointers.push_back(results.back()->as<float>());
    }
    const Guarded dbias(sizeof(float) * p.channels, side, (gap + 9) % 16 * sizeof(float)),
        workspace(core::round_up(gradient.workspace_bytes(), core::alignment), side);
    test::poison();
    gradient.run({src->as(), dy->as(), pointers, dbias.as<float>()}, false,
                 {.batch = p.batch, .workspace = workspace.as()});
    std::vector<int> channels(p.channels);
    std::iota(channels.begin(), channels.end(), 0);
    const WeightReference expected = weight_reference(p, c.src.data(), c.dy.data(), channels);
    EXPECT_LE(weight_error(p, expected, pointers, dbias.as<float>()), allowed_weight_error(expected, c));
    for (const auto& each : results) EXPECT_TRUE(each->intact()) << "around dweights";
    EXPECT_TRUE(dbias.intact()) << "around dbias";
    EXPECT_TRUE(workspace.intact()) << "around the workspace";
    EXPECT_EQ(std::memcmp(src->as(), c.src.data(), c.src.bytes()), 0) << "src changed";
    EXPECT_EQ(std::memcmp(dy->as(), c.dy.data(), c.dy.bytes()), 0) << "dy changed";
    runs_++;
  }

  int runs_ = 0;
};

TEST_F(GradientGuard, Input) {
  const int shapes = sweep(140, 2000);
  std::array<int, 5> done{};
  const std::array<std::optional<std::string>, 5> algorithms{std::nullopt, "portable", "direct",
                                                             "row-spectral", "spectral"};
  for (int seed = 0; seed < shapes; seed++) {
    Problem p =
        plain(random_problem_with(seed % 2 ? static_cast<unsigned>(seed) * 29 % 128 : 0, 300 + seed, 13, 19));
    p.numerics = seed % 3 ? Numerics::fast : Numerics::exact;
    SCOPED_TRACE(to_string(p));
    const TrainingCase c(p, seed);
    const std::size_t which = static_cast<std::size_t>(seed) % algorithms.size();
    for (const Side side : {Side::begin, Side::end})
      done[which] += input(c, algorithms[which], side, seed % 16);
    if (HasFailure()) return;
  }
  for (std::size_t i = 0; i < done.size(); i++) {
    EXPECT_GT(done[i], 0) << algorithms[i].value_or("any");
    std::printf("%s%s %d", i ? ", " : "runs: ", algorithms[i].value_or("any").c_str(), done[i]);
  }
  std::printf("\n");
}

TEST_F(GradientGuard, Weights) {
  const int shapes = sweep(140, 2000);
  std::map<std::string, int> done;
  const Isa isa = isa_of(plan_features({}));
  for (int seed = 0; seed < shapes; seed++) {
    Problem p =
        plain(random_problem_with(seed % 2 ? static_cast<unsigned>(seed) * 29 % 128 : 0, 700 + seed, 11, 13));
    p.numerics = seed % 3 ? Numerics::fast : Numerics::exact;
    SCOPED_TRACE(to_string(p));
    const TrainingCase c(p, seed);
    for (const WeightAlgorithm* algorithm : weight_algorithms()) {
      if (p.numerics == Numerics::exact && !algorithm->exact()) continue;
      const auto candidates = algorithm->candidates(p, merged_geometry(p), isa, 1);
      if (candidates.empty()) continue;
      const Tiling& tiling = candidates[static_cast<std::size_t>(seed) % candidates.size()].tiling;
      SCOPED_TRACE(tiling.to_string());
      for (const Side side : {Side::begin, Side::end}) weights(c, tiling, side, seed % 16);
      done[std::string(algorithm->name())]++;
    }
    if (HasFailure()) return;
  }
  for (const WeightAlgorithm* algorithm : weight_algorithms()) {
    EXPECT_GT(done[std::string(algorithm->name())], 0) << algorithm->name();
    std::printf("%s on %d shapes\n", std::string(algorithm->name()).c_str(),
                done[std::string(algorithm->name())]);
  }
}

/// A NaN or an infinity in dy reaches, in dx, its own channel of its own image; in class exact only the
/// pixels that its taps meet (where the reference is not finite). In dw and dbias, its own channel.
class NansStay : public testing::Test {
 protected:
  void check(Problem p, int seed) {
    p.batch = 2;
    SCOPED_TRACE(to_string(p));
    TrainingCase c(p, seed);
    PlanOptions options;
    options.threads = 1;
    const Storage before = c.input_gradient(options);
    const auto weights_before = c.weight_gradients(options);
    const Strides at = p.output_strides();
    const int channel = seed % p.channels, row = seed % p.out_height(), column = seed / 3 % p.out_width();
    c.dy.set(at.image + channel * at.channel + row * at.row + column * at.pixel,
             seed % 4 < 2 ? NAN : std::numeric_limits<float>::infinity());
    const Storage after = c.input_gradient(options);
    for (const InputReference::Plane& plane : input_reference(c.problem, c.weights, c.dy.data()).planes)
      check_plane(p, plane, plane.image == 1 && plane.channel == channel / p.multiplier, before, after);
    const auto weights_after = c.weight_gradients(options);
    for (std::size_t i = 0; i < weights_after.size(); i++)
      for (std::size_t t = 0; t < weights_after[i].size(); t++)
        if (static_cast<int>(t / (weights_after[i].size() / p.channels)) != channel) {
          ASSERT_EQ(weights_after[i][t], weights_before[i][t]) << "of branch " << i;
        }
    EXPECT_FALSE(std::isfinite(weights_after.back()[channel]));
  }

  void check_plane(const Problem& p, const InputReference::Plane& plane, bool own, const Storage& before,
                   const Storage& after) {
    const Strides into = p.input_strides();
    for (int y = 0; y < p.height; y++)
      for (int x = 0; x < p.width; x++) {
        const std::int64_t i =
            plane.image * into.image + plane.channel * into.channel + y * into.row + x * into.pixel;
        const bool met = !std::isfinite(plane.dx[static_cast<std::size_t>(y) * p.width + x]);
        if (own && met) {
          ASSERT_FALSE(std::isfinite(after.get(i))) << "a NaN that is lost";
        }
        if (own && (met || p.numerics == Numerics::fast)) continue;
        ASSERT_EQ(std::bit_cast<std::uint32_t>(after.get(i)), std::bit_cast<std::uint32_t>(before.get(i)))
            << "image " << plane.image << ", channel " << plane.channel << ", " << y << ", " << x;
        kept_++;
      }
  }

  int kept_ = 0;
};

TEST_F(NansStay, OfRandomProblems) {
  for (int seed = 0; seed < sweep(160, 2000); seed++) {
    Problem p = plain(random_problem_with(static_cast<unsigned>(seed) * 61 % 128, 1100 + seed, 9, 11));
    p.type = DataType::f32;
    p.numerics = seed % 2 ? Numerics::fast : Numerics::exact;
    p.src_strides.reset(), p.dst_strides.reset();
    check(p, seed);
    if (HasFatalFailure()) return;
  }
  EXPECT_GT(kept_, 10000);
}

/// Taps of several branches that fill no rectangle together: what lies between them is no tap.
TEST_F(NansStay, BetweenBranches) {
  for (const char* shape :
       {"n2c3h17w15k7x3,3x7s3exact", "n2c3h17w15k7x3,3x7,3s3nchwexact", "n2c3h23w22k3d5,5s3exact"})
    for (int seed = 0; seed < 8; seed++) check(parse(shape), seed);
  EXPECT_GT(kept_, 1000);
}

}  // namespace
}  // namespace replk::depthwise
