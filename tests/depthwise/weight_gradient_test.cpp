// The weight gradient against its double reference.
#include "depthwise/gradient/weight_gradient.hpp"

#include <gtest/gtest.h>

#include <numeric>

#include "case.hpp"
#include "depthwise/gradient/weight_algorithm.hpp"
#include "depthwise/gradient/weight_reference.hpp"

namespace replk::depthwise {
namespace {

/// A problem's tensors, with channels of very different size.
struct GradientCase {
  explicit GradientCase(const Problem& p, std::uint64_t seed = 1, float mean = 0)
      : problem(p), src(p.type, p.input_elements()), dy(p.type, p.output_elements()) {
    std::mt19937_64 random(seed);
    std::normal_distribution<float> normal;
    for (std::int64_t i = 0; i < src.elements(); i++) src.set(i, mean + normal(random));
    for (std::int64_t i = 0; i < dy.elements(); i++) dy.set(i, mean + normal(random));
    for (int c = 0; c < p.channels; c++) {
      const float factor = std::pow(10.0f, static_cast<float>(static_cast<int>(random() % 7) - 3));
      const Strides s = p.output_strides();
      for (std::int64_t n = 0; n < p.batch; n++)
        for (int y = 0; y < p.out_height(); y++)
          for (int x = 0; x < p.out_width(); x++) {
            const std::int64_t at = n * s.image + y * s.row + x * s.pixel + c * s.channel;
            dy.set(at, dy.get(at) * factor);
          }
    }
  }

  Problem problem;
  Storage src, dy;
};

struct Gradients {
  explicit Gradients(const Problem& p, float value = std::nanf("")) {
    for (const Branch& b : p.branches)
      dweights.emplace_back(static_cast<std::size_t>(p.channels) * b.taps(), value);
    dbias.assign(p.channels, value);
    for (auto& each : dweights) pointers.push_back(each.data());
  }
  WeightGradientTensors tensors(const GradientCase& c) {
    return {c.src.data(), c.dy.data(), pointers, dbias.data()};
  }
  std::vector<std::vector<float>> dweights;
  std::vector<float> dbias;
  std::vector<float*> pointers;
};

std::vector<int> all_channels(const Problem& p) {
  std::vector<int> all(p.channels);
  std::iota(all.begin(), all.end(), 0);
  return all;
}

Problem plain(Problem p, Numerics numerics) {
  p.epilogue = {.bias = p.epilogue.bias};
  p.numerics = numerics;
  return p;
}

TEST(WeightGradient, PortableIsTheDefinition) {
  for (unsigned seed = 0; seed < 150; seed++) {
    const Problem p = plain(random_problem_with(seed * 37 % 128, seed, 9, 13), Numerics::exact);
    SCOPED_TRACE(to_string(p));
    const GradientCase c(p, seed);
    PlanOptions options;
    options.threads = 1 + seed % 3;
    const WeightGradient gradient(p, options);
    ASSERT_EQ(gradient.tiling().algorithm, "portable");
    Gradients g(p);
    gradient.run(g.tensors(c), false);
    const WeightReference expected = weight_reference(p, c.src.data(), c.dy.data(), all_channels(p));
    ASSERT_LE(weight_error(p, expected, g.pointers, g.dbias.data()), 1.2e-7);
  }
}

/// Seeded problems with every option, each by one of the algorithm's tilings.
void expect_near_the_reference(std::string_view algorithm, unsigned problems, double least_share) {
  int computed = 0;
  double worst = 0;
  for (unsigned seed = 0; seed < problems; seed++) {
    const Problem p = plain(random_problem_with(seed * 37 % 128, seed, 17, 29), Numerics::fast);
    SCOPED_TRACE(to_string(p));
    PlanOptions options;
    options.threads = 1 + seed % 3;
    const std::vector<Candidate> all =
        find_weight_algorithm(algorithm)->candidates(p, merged_geometry(p), core::cpu().isa, options.threads);
    if (all.empty()) continue;
    computed++;
    const GradientCase c(p, seed);
    options.tiling = all[seed % all.size()].tiling;
    SCOPED_TRACE(options.tiling->to_string());
    Gradients g(p);
    WeightGradient(p, options).run(g.tensors(c), false);
    const WeightReference expected = weight_reference(p, c.src.data(), c.dy.data(), all_channels(p));
    const double error = weight_error(p, expected, g.pointers, g.dbias.data());
    worst = std::max(worst, error);
    ASSERT_LE(error, 2e-6);
  }
  std::printf("%s: %d of %u problems, worst error %.2e\n", std::string(algorithm).c_str(), computed, problems,
              worst);
  EXPECT_GE(computed, least_share * problems);
}

TEST(WeightGradient, RowSpectralIsNearTheReference) {
  expect_near_the_reference("row-spectral", 700, 0.4);
}

TEST(WeightGradient, DirectIsNearTheReference) {
  expect_near_the_reference("direct", 700, 0.9);
}

TEST(WeightGradient, AnEpilogueIsAnError) {
  for (const char* shape : {"n1c8h9w9k3+relu", "n1c8h9w9k3+scale", "n1c8h9w9k3+residual"})
    EXPECT_THROW(WeightGradient{parse(shape)}, core::Error) << shape;
}

}  // namespace
}  // namespace replk::depthwise
