// The input gradient against its double reference: strides, dilation, paddings, branches, layouts, types,
// views.
#include "depthwise/gradient/input_gradient.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstring>
#include <string>

#include "depthwise/gradient/input_reference.hpp"
#include "tests/depthwise/training_case.hpp"

namespace replk::depthwise {
namespace {

/// A sum in a fixed order may be off by a rounding a product.
double allowed(const Problem& p) {
  if (p.numerics == Numerics::fast) return 1;
  double taps = 0;
  for (const Branch& b : p.branches) taps += b.taps();
  return taps * p.multiplier;
}

struct Worst {
  double relative = 0, of_allowed = 0;
};

void check(const Problem& p, std::uint64_t seed, int threads, Worst& worst, float mean = 0) {
  SCOPED_TRACE(to_string(p));
  const TrainingCase c(p, seed, mean);
  PlanOptions options;
  options.threads = threads;
  const Storage dx = c.input_gradient(options);
  const Accuracy accuracy =
      input_error(c.problem, input_reference(c.problem, c.weights, c.dy.data()), dx.data());
  ASSERT_LE(accuracy.max_of_allowed, allowed(p));
  if (p.type != DataType::f32) return;
  worst.relative = std::max(worst.relative, accuracy.max_relative_error);
  worst.of_allowed = std::max(worst.of_allowed, accuracy.max_of_allowed / allowed(p));
}

void report(const char* what, int shapes, const Worst& worst) {
  std::printf("%s: %d shapes, fp32 errors up to %.2g of the channel's largest, %.2f of what is allowed\n",
              what, shapes, worst.relative, worst.of_allowed);
}

TEST(InputGradient, RandomProblems) {
  Worst worst;
  int staged = 0, shapes = 0;
  for (unsigned seed = 0; seed < 640; seed++) {
    Problem p = plain(random_problem_with(seed * 37 % 128, seed, 11, 15));
    p.numerics = seed % 3 ? Numerics::fast : Numerics::exact;
    if (seed % 5 == 0) p.type = DataType::f32;
    staged += p.multiplier > 1;
    check(p, seed, 1 + seed % 3, worst, seed % 7 == 0 ? 3.0f : 0.0f);
    if (HasFatalFailure()) return;
    shapes++;
  }
  EXPECT_GT(staged, 60);
  report("random problems", shapes, worst);
}

/// Strides with kernels, dilations and paddings of every relation to them, several branches too.
TEST(InputGradient, RemaindersOfStrides) {
  Worst worst;
  int shapes = 0;
  for (const char* kernel : {"k1", "k2", "k3", "k5x4", "k7", "k3d2", "k3d3", "k4d4", "k13x1", "k5,3",
                             "k7x3,3x7,3", "k5,3d2", "k4,2", "k3d6,5", "k7d2x1"})
    for (const char* stride : {"s2", "s3", "s1x2", "s4x1", "s5", "s16"})
      for (const char* rest : {"", "nchw", "p0", "exact", "bf16", "nhwc>nchw", "p1:4x-2:3"}) {
        const std::string shape = std::string("n2c5h17w15") + kernel + stride + rest;
        try {
          (void)parse(shape);
        } catch (const core::Error&) {
          continue;  // branches of different output
        }
        shapes++;
        check(plain(parse(shape)), shapes, 1 + shapes % 2, worst);
        if (HasFatalFailure()) return;
      }
  EXPECT_GT(shapes, 500);
  report("strides", shapes, worst);
}

/// Branches that fit into no kernel together are computed apart, and summed in fp32 whatever the type.
TEST(InputGradient, BranchesApart) {
  Worst worst;
  for (const char* shape : {"n2c9h70w72k3d32,5s2", "n1c9h70w72k3d32,5s2nchw", "n2c9h70w72k3d32,5s2bf16",
                            "n1c9h30w31k3d5,5s3exact", "n1c9h30w31k3d5,5s3exactnchwfp16"})
    check(plain(parse(shape)), 3, 2, worst);
  report("branches apart", 5, worst);
}

TEST(InputGradient, LargeKernels) {
  Worst worst;
  for (const char* shape :
       {"n1c17h30w31k31,5", "n2c16h14w14k27", "n1c33h7w7k13", "n1c8h40w40k51x5,5x51,5", "n1c16h28w28k29nchw",
        "n1c16h28w28k31s2", "n1c16h12w12k31", "n1c4h40w9k127x1", "n1c16h20w20k63", "n1c16h14w14k13,5d3,3d6"})
    check(plain(parse(shape)), 5, 2, worst, 1);
  report("large kernels", 10, worst);
}

/// Rows and columns that no tap reaches, far from what one does.
TEST(InputGradient, CroppedAndPassedOver) {
  Worst worst;
  int shapes = 0;
  for (const char* shape :
       {"n1c3h2000w3k3p-1500:0x1", "n1c3h3w2000k3p1x-3:-1990", "n2c3h40w40k1s16p0", "n1c3h40w40k3s16p1nchw",
        "n1c3h9w9k3p7", "n1c3h1w1k63p200", "n1c3h3w3k2d64p64", "n1c1h1w1k1", "n1c4h5w5k3p1023",
        "n1c2h1200w2k1p-1199:1023x0", "n1c3h65536w1k3x1p-60000:0x0"})
    check(plain(parse(shape)), 7 + ++shapes, 1, worst);
  report("cropped", shapes, worst);
}

TEST(InputGradient, ADensePlanIsTheForwardPassThatWasTuned) {
  const auto problems = input_gradient_problems(parse("n1c128h56w56k31"));
  ASSERT_EQ(problems.size(), 1u);
  EXPECT_EQ(to_string(problems[0]), "n1c128h56w56k31nobias");
  EXPECT_EQ(to_string(input_gradient_problems(parse("n2c8h14w14k31,5nchwbf16p10"))[0]),
            "n2c8h4w4k31,5p20nchwbf16nobias");
  EXPECT_EQ(input_gradient_problems(parse("n1c8h14w14k7s2")).size(), 4u);
}

/// Bits depend neither on the threads nor on the batch, nor on how the weights came.
TEST(InputGradient, SameBits) {
  for (unsigned seed = 0; seed < 60; seed++) {
    Problem p = plain(random_problem_with(seed * 29 % 128, 5000 + seed, 11, 15));
    p.numerics = seed % 2 ? Numerics::fast : Numerics::exact;
    p.batch = 2;
    p.src_strides.reset();
    SCOPED_TRACE(to_string(p));
    const TrainingCase c(p, seed);
    PlanOptions options;
    options.threads = 1;
    // Small work would be given to fewer threads.
    if (p.numerics == Numerics::exact) options.algorithm = "portable";
    const Storage once = c.input_gradient(options);
    options.threads = 5;
    InputGradient other(c.problem, TrainingCase(p, seed + 1).weights, options);
    other.set_weights(c.weights);
    ASSERT_EQ(differing(once, c.input_gradient(other)), 0);
    // The second image alone.
    Storage alone(p.type, p.input_elements());
    std::memcpy(alone.data(), once.data(), once.bytes());
    const std::size_t size = size_of(p.type);
    const auto* dy = static_cast<const std::byte*>(c.dy.data()) + p.output_strides().image * size;
    auto* dx = static_cast<std::byte*>(alone.data()) + p.input_strides().image * size;
    std::memset(dx, 0xff, static_cast<std::size_t>(p.input_strides().image) * size);
    other.run(dy, dx, {.batch = 1});
    ASSERT_EQ(differing(once, alone), 0);
    if (p.numerics != Numerics::exact) continue;
    for (const Isa isa : {Isa::portable, Isa::avx2}) {
      PlanOptions lower;
      lower.isa = isa;
      lower.threads = 2;
      ASSERT_EQ(differing(once, c.input_gradient(lower)), 0);
    }
  }
}

/// Sums and transforms of numbers this large overflow where their results do not; the channels are then
/// computed anew, with the weights that were set last.
TEST(InputGradient, WhatOverflowsOnTheWayIsFinite) {
  for (const char* shape : {"n2c17h14w14k13", "n1c16h12w12k7,3nchw", "n1c9h15w15k5s2"}) {
    TrainingCase c(parse(shape), 3);
    c.for_outputs([&](std::int64_t at, int channel) {
      c.dy.set(at, channel % 3 == 0 ? (at % 2 ? 2e38f : -2e38f) : c.dy.get(at));
    });
    for (auto& branch : c.branch_weights)
      for (float& w : branch) w *= 0.05f;
    InputGradient gradient(c.problem, TrainingCase(c.problem, 4).weights);
    gradient.set_weights(c.weights);
    const Storage dx = c.input_gradient(gradient);
    for (std::int64_t i = 0; i < dx.elements(); i++)
      ASSERT_TRUE(std::isfinite(dx.get(i))) << shape << " at " << i;
    EXPECT_LE(
        input_error(c.problem, input_reference(c.problem, c.weights, c.dy.data()), dx.data()).max_of_allowed,
        1)
        << shape;
  }
}

/// Spectra of weights this large overflow, and cannot give them back: they are read from a copy.
TEST(InputGradient, WeightsThatOverflowAsTheyArePacked) {
  for (const char* shape : {"n2c17h14w14k13", "n1c16h12w12k13x11,5x3nchw", "n1c9h15w15k13s2"}) {
    TrainingCase c(parse(shape), 3);
    c.for_outputs([&](std::int64_t at, int) { c.dy.set(at, c.dy.get(at) * 1e-5f); });
    for (auto& branch : c.branch_weights)
      for (float& w : branch) w = w < 0 ? -3e38f : 2e38f;
    PlanOptions options;
    options.algorithm = "row-spectral";
    InputGradient gradient(c.problem, TrainingCase(c.problem, 4).weights, options);
    gradient.set_weights(c.weights);
    const Storage dx = c.input_gradient(gradient);
    const InputReference expected = input_reference(c.problem, c.weights, c.dy.data());
    EXPECT_LE(input_error(c.problem, expected, dx.data()).max_of_allowed, 1) << shape;
  }
}

TEST(InputGradient, WhatIsWrongIsNamed) {
  const auto refused = [](const char* shape, const char* word) {
    const Problem p = parse(shape);
    const std::vector<float> w(static_cast<std::size_t>(p.channels) * 9);
    const std::span<const float> weights[] = {w};
    try {
      InputGradient(p, weights);
      ADD_FAILURE() << shape;
    } catch (const core::Error& error) {
      EXPECT_EQ(error.status(), core::Status::invalid_argument);
      EXPECT_NE(std::string(error.what()).find(word), std::string::npos) << error.what();
    }
  };
  refused("n1c8h9w9k3+relu", "activation");
  refused("n1c8h9w9k3+scale", "scale");
  refused("n1c8h9w9k3+residual", "residual");
  refused("n1c8h9w9k3narrow", "narrow");
  refused("n1c8h9w9k3bf16>fp16", "two types");
  refused("n1c8h9w9k5", "200");  // elements that weights must have
  const TrainingCase c(parse("n1c8h9w9k3"));
  InputGradient gradient(c.problem, c.weights);
  Storage dx(DataType::f32, c.problem.input_elements());
  EXPECT_THROW(gradient.run(nullptr, dx.data()), core::Error);
  EXPECT_THROW(gradient.run(c.dy.data(), nullptr), core::Error);
  EXPECT_THROW(gradient.run(c.dy.data(), dx.data(), {.batch = -1}), core::Error);
  EXPECT_THROW(gradient.set_weights({}), core::Error);
  const Storage before = c.input_gradient(PlanOptions{});
  gradient.run(c.dy.data(), dx.data());  // the old weights stayed
  EXPECT_EQ(differing(before, dx), 0);
}

}  // namespace
}  // namespace replk::depthwise
