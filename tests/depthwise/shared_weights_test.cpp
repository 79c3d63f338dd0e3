// An input gradient that reads the packed weights of its layer.
#include <gtest/gtest.h>

#include <cmath>
#include <cstdio>
#include <cstring>
#include <functional>
#include <memory>
#include <string>

#include "core/cpu.hpp"
#include "core/error.hpp"
#include "depthwise/gradient/input_reference.hpp"
#include "tests/depthwise/training_case.hpp"

namespace replk::depthwise {
namespace {

/// A layer whose tiling is a row-spectral one, and options for a gradient that may share its weights.
struct Trained {
  explicit Trained(const std::string& shape, std::uint64_t seed = 1, float mean = 0)
      : c(parse(shape), seed, mean) {
    options.threads = 1;
    options.algorithm = "row-spectral";
    layer = std::make_unique<Plan>(c.problem, c.weights, c.bias, options);
    options.algorithm.reset();
    options.layer = layer.get();
  }

  InputGradient gradient() const { return {c.problem, c.weights, options}; }
  bool shares(const InputGradient& gradient) const {
    return gradient.plans().size() == 1 && gradient.plans()[0]->shares_weights();
  }
  double error(const Storage& dx) const {
    return input_error(c.problem, input_reference(c.problem, c.weights, c.dy.data()), dx.data())
        .max_of_allowed;
  }

  TrainingCase c;
  PlanOptions options;
  std::unique_ptr<Plan> layer;
};

std::string refusal(const std::function<void()>& call) {
  try {
    call();
  } catch (const core::Error& error) {
    EXPECT_EQ(error.status(), core::Status::invalid_argument);
    return error.what();
  }
  return "";
}

class SharedWeights : public testing::Test {
  void SetUp() override {
    if (core::cpu().isa < Isa::avx2) GTEST_SKIP() << "row-spectral needs AVX2, which is not in use here";
  }
};

TEST_F(SharedWeights, GiveTheGradientOfTheDefinition) {
  int shared = 0, shapes = 0;
  for (const char* shape :
       {"n1c16h7w7k13", "n2c37h14w14k27", "n1c33h28w28k29", "n1c16h56w56k31", "n1c20h30w30k31,5",
        "n1c24h16w16k13nchw", "n1c24h16w16k13nchw>nhwc", "n1c24h16w16k13bf16", "n1c17h15w11k9x13p4x6",
        "n1c16h20w20k7p1", "n1c16h20w20k9p6", "n1c16h20w20k9p2:3x4:1", "n1c16h9w9k31", "n1c8h16w16k13x5",
        "n1c8h16w16k5x13", "n1c16h20w20k5d3", "n1c5h16w16k7,3d2", "n3c48h12w12k11nobias"})
    for (const float mean : {0.0f, 3.0f}) {
      SCOPED_TRACE(shape);
      const Trained t(shape, 3, mean);
      const InputGradient gradient = t.gradient();
      ASSERT_LE(t.error(t.c.input_gradient(gradient)), 1);
      shapes++;
      shared += t.shares(gradient);
    }
  EXPECT_GT(shared, shapes / 2) << "most of these layers are packed as their gradients are";
  std::printf("%d of %d share\n", shared, shapes);
}

TEST_F(SharedWeights, RandomProblems) {
  int shared = 0;
  for (unsigned seed = 0; seed < 300; seed++) {
    Problem p = plain(random_problem_with(seed * 37 % 128, seed, 11, 15));
    p.stride_h = p.stride_w = p.multiplier = 1;
    p.src_strides = p.dst_strides = std::nullopt;
    p.numerics = Numerics::fast;
    SCOPED_TRACE(to_string(p));
    const TrainingCase c(p, seed);
    PlanOptions options;
    options.threads = 1 + static_cast<int>(seed % 3);
    const Plan layer(c.problem, c.weights, c.bias, options);
    options.layer = &layer;
    const InputGradient gradient(c.problem, c.weights, options);
    for (const auto& plan : gradient.plans()) shared += plan->shares_weights();
    const Storage dx = c.input_gradient(gradient);
    ASSERT_LE(
        input_error(c.problem, input_reference(c.problem, c.weights, c.dy.data()), dx.data()).max_of_allowed,
        1);
  }
  std::printf("%d of 300 share\n", shared);
}

/// New weights go to the layer and then to its gradient, which is then as one that was made with them.
TEST_F(SharedWeights, AreSetOnceInOrder) {
  Trained t("n1c24h14w14k13");
  InputGradient gradient = t.gradient();
  ASSERT_TRUE(t.shares(gradient));
  const Trained other("n1c24h14w14k13", 9);
  const std::string early = refusal([&] { gradient.set_weights(other.c.weights); });
  EXPECT_NE(early.find("layer first"), std::string::npos) << early;
  t.layer->set_weights(other.c.weights, other.c.bias);
  const std::string between = refusal([&] { (void)t.c.input_gradient(gradient); });
  EXPECT_NE(between.find("since"), std::string::npos) << between;
  gradient.set_weights(other.c.weights);
  const Storage dx = other.c.input_gradient(gradient), made = other.c.input_gradient(other.gradient());
  EXPECT_EQ(std::memcmp(dx.data(), made.data(), dx.bytes()), 0);
  EXPECT_NE(refusal([&] { gradient.set_weights(other.c.weights); }), "");
}

TEST_F(SharedWeights, OutliveTheLayer) {
  Trained t("n1c24h14w14k13");
  const InputGradient gradient = t.gradient();
  ASSERT_TRUE(t.shares(gradient));
  t.layer.reset();
  EXPECT_LE(t.error(t.c.input_gradient(gradient)), 1);
}

/// Sums that overflow on the way are taken anew, from the layer's weights read backwards.
TEST_F(SharedWeights, LargeNumbersStayFinite) {
  Trained t("n1c16h14w14k13");
  const InputGradient gradient = t.gradient();
  ASSERT_TRUE(t.shares(gradient));
  for (int row = 0; row < 7; row++)
    for (int column = 0; column < 7; column++) t.c.dy.set((row * 14 + column) * 16 + 3, 9.96921e36f);
  Storage dx = t.c.input_gradient(gradient);
  for (std::int64_t i = 0; i < dx.elements(); i++) ASSERT_TRUE(std::isfinite(dx.get(i))) << i;
  EXPECT_LE(t.error(dx), 1);
}

/// Weights whose spectra overflow: the layer keeps them as they came.
TEST_F(SharedWeights, LargeWeightsStayFinite) {
  Trained t("n1c16h14w14k13");
  for (float& w : t.c.branch_weights[0]) w = std::copysign(1e38f, w) + 1e38f * w;
  for (std::int64_t i = 0; i < t.c.dy.elements(); i++) t.c.dy.set(i, t.c.dy.get(i) * 1e-30f);
  t.layer->set_weights(t.c.weights, t.c.bias);
  const InputGradient gradient = t.gradient();
  ASSERT_TRUE(t.shares(gradient));
  const Storage dx = t.c.input_gradient(gradient);
  for (std::int64_t i = 0; i < dx.elements(); i++) ASSERT_TRUE(std::isfinite(dx.get(i))) << i;
  EXPECT_LE(t.error(dx), 1);
}

TEST_F(SharedWeights, AreThoseOfTheSameSizes) {
  Trained t("n1c24h14w14k13");
  for (const char* other : {"n1c24h14w14k11", "n1c24h14w15k13", "n1c16h14w14k13", "n1c24h14w14k13p5"}) {
    const TrainingCase c(parse(other));
    const std::string said = refusal([&] { InputGradient(c.problem, c.weights, t.options); });
    EXPECT_NE(said.find("layer is n1c24h14w14k13"), std::string::npos) << said;
  }
  // What a layer does with its sums, and how its tensors lie, is its own affair.
  const TrainingCase c(parse("n2c24h14w14k13nchwbf16"));
  PlanOptions options = t.options;
  EXPECT_NO_THROW(InputGradient(c.problem, c.weights, options));
}

}  // namespace
}  // namespace replk::depthwise
