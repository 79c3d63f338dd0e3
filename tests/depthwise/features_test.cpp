// What a problem may have beside a kernel and its epilogue: padding for each side, cropping, long strides, 1
// x k kernels, layouts of input and output apart, several outputs a channel, gaps between elements, SiLU,
// hard-swish and a scale; other batches than the plan's; other weights. Each on 300 random problems, with
// every algorithm that takes it.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <map>

#include "core/cpu.hpp"
#include "jit/x64/code.hpp"
#include "tests/depthwise/case.hpp"

namespace replk::depthwise {
namespace {

constexpr std::uint64_t problems = 300;

Isa isa() {
  return jit::code_allowed() ? core::cpu().isa : Isa::portable;
}

PlanOptions with(const Case& c, const Tiling& tiling, int threads = 1) {
  PlanOptions options;
  options.tiling = tiling;
  options.threads = threads;
  options.scale = c.scale;
  return options;
}

/// A tiling of each algorithm that can compute a problem.
std::vector<Tiling> tilings(const Problem& p, std::uint64_t seed) {
  std::vector<Tiling> all;
  for (const Algorithm* algorithm : algorithms()) {
    if (!algorithm->exact() && p.numerics == Numerics::exact) continue;
    const auto found = algorithm->candidates(request_of(p, isa()));
    if (!found.empty()) all.push_back(found[seed % found.size()].tiling);
  }
  return all;
}

/// Whether the element `at` of the output is one of its values, and of which image.
std::vector<std::int64_t> image_of_each(const Problem& p) {
  std::vector<std::int64_t> image(static_cast<std::size_t>(p.output_elements()), -1);
  const Strides s = p.output_strides();
  for (const Sample& o : all_outputs(p))
    image[o.image * s.image + o.row * s.row + o.column * s.pixel + o.channel * s.channel] = o.image;
  return image;
}

/// Whether row-spectral can be expected to take a problem: it leaves maps of few outputs, axes of few, and
/// strides that may pass inputs over (docs/algorithms.md, Numerics).
bool transformable(const Problem& p) {
  const int rows = p.out_height(), columns = p.out_width();
  return p.numerics == Numerics::fast && rows * columns >= 8 &&
         ((p.stride_h == 1 && rows >= 4) || (p.stride_w == 1 && columns >= 4));
}

class Features : public testing::TestWithParam<std::pair<const char*, unsigned>> {};

TEST_P(Features, EveryAlgorithmIsRight) {
  std::map<std::string, int> counts;
  int expected_spectral = 0;
  double worst = 0;
  for (std::uint64_t seed = 0; seed < problems; seed++) {
    Problem p = random_problem_with(GetParam().second, seed);
    p.numerics = seed % 4 ? Numerics::fast : Numerics::exact;
    expected_spectral += transformable(p);
    const Case c(p, seed, seed % 2 ? 1.0f : 0.0f);
    SCOPED_TRACE(to_string(p));
    Storage exact = c.run(portable_options());
    const auto samples = all_outputs(p);
    const auto expected = reference(p, c.weights, c.bias, c.tensors(exact), samples, c.scale);
    const auto images = image_of_each(p);
    for (const Tiling& tiling : tilings(p, seed)) {
      SCOPED_TRACE(tiling.to_string());
      Storage got = c.run(with(c, tiling));
      const bool same_bits = p.numerics == Numerics::exact;
      if (same_bits) {
        ASSERT_EQ(differing(exact, got), 0);
      }
      const double of_allowed =
          compare(p, c.weights, c.bias, c.tensors(got), samples, expected, c.scale).max_of_allowed;
      ASSERT_LE(of_allowed, same_bits ? 2 : 1);
      if (!same_bits && p.output_type() == DataType::f32) worst = std::max(worst, of_allowed);
      for (std::int64_t i = 0; i < got.elements(); i++) {
        ASSERT_TRUE(images[i] >= 0 || got.untouched(i)) << "a gap was written, at " << i;
      }
      counts[tiling.algorithm]++;
    }
  }
  std::string text;
  for (const auto& [name, count] : counts) text += " " + name + " " + std::to_string(count);
  std::printf("%s:%s of %d; fast up to %.2f of what is allowed\n", GetParam().first, text.c_str(),
              expected_spectral, worst);
  EXPECT_EQ(counts["portable"], static_cast<int>(problems));
  if (isa() != Isa::portable) {
    EXPECT_GT(counts["direct"], static_cast<int>(problems) * 8 / 10);  // not where no tap meets the map
    EXPECT_GT(expected_spectral, 0);
    EXPECT_GT(counts["row-spectral"], expected_spectral * 8 / 10);
  }
}

INSTANTIATE_TEST_SUITE_P(, Features,
                         testing::Values(std::pair("sided_padding", 1u), std::pair("long_stride", 2u),
                                         std::pair("line_kernel", 4u), std::pair("mixed_layout", 8u),
                                         std::pair("gaps", 16u), std::pair("more_epilogue", 32u),
                                         std::pair("multiplied", 64u), std::pair("two_types", 128u),
                                         std::pair("all", 255u)),
                         [](const auto& info) { return info.param.first; });

TEST(Batch, AnImagesBitsDoNotDependOnIt) {
  int others = 0;
  for (std::uint64_t seed = 0; seed < problems; seed++) {
    Problem p = random_problem_with(seed % 3 ? 0 : static_cast<unsigned>(seed / 3 % 256), seed);
    p.numerics = seed % 4 ? Numerics::fast : Numerics::exact;
    Problem most = p;  // what the tensors hold
    most.batch = 5;
    const Case c(most, seed);
    for (const Tiling& tiling : tilings(p, seed)) {
      SCOPED_TRACE(to_string(p) + ": " + tiling.to_string());
      const int threads = 1 + static_cast<int>(seed % 3);
      const Plan plan(p, c.weights, c.bias, with(c, tiling, threads));
      const Plan alone(p, c.weights, c.bias, with(c, tiling));
      const auto images = image_of_each(most);
      const std::size_t source = p.input_strides().image * size_of(p.type),
                        result = p.output_strides().image * size_of(p.output_type());
      Storage one(p.output_type(), most.output_elements()), many(p.output_type(), most.output_elements());
      std::memset(one.data(), 0xff, one.bytes());
      for (int i = 0; i < most.batch; i++) {
        const auto at = [&](const void* tensor, std::size_t image) {
          return static_cast<const char*>(tensor) + i * image;
        };
        alone.run({at(c.src.data(), source), const_cast<char*>(at(one.data(), result)),
                   p.epilogue.residual ? at(c.residual.data(), result) : nullptr},
                  {.batch = 1});
      }
      for (const std::int64_t batch : {1, 2, 3, 5}) {
        std::memset(many.data(), 0xff, many.bytes());
        core::Buffer<std::byte> workspace(plan.workspace_bytes());
        plan.run(c.tensors(many), {batch, workspace.data()});
        for (std::int64_t i = 0; i < many.elements(); i++) {
          if (images[i] < 0 || images[i] >= batch) {
            ASSERT_TRUE(many.untouched(i)) << "element " << i << " of " << batch << " images";
          } else {
            ASSERT_EQ(std::bit_cast<std::uint32_t>(many.get(i)), std::bit_cast<std::uint32_t>(one.get(i)))
                << "element " << i << " of " << batch << " images";
          }
        }
        others += batch != p.batch;
      }
    }
  }
  EXPECT_GT(others, static_cast<int>(problems));
}

TEST(Batch, IsLimited) {
  const Case c("n1c8h9w9k3");
  const Plan plan(c.problem, c.weights, c.bias, portable_options());
  Storage dst(DataType::f32, c.problem.output_elements());
  for (const std::int64_t batch : {std::int64_t{-1}, std::int64_t{1} << 21, INT64_MAX, INT64_MIN}) {
    try {
      plan.run(c.tensors(dst), {.batch = batch});
      ADD_FAILURE() << batch << " was accepted";
    } catch (const core::Error& e) {
      EXPECT_NE(std::string(e.what()).find("batch (n) is " + std::to_string(batch)), std::string::npos)
          << e.what();
    }
  }
}

TEST(SetWeights, GivesTheBitsOfAPlanMadeWithThem) {
  int done = 0;
  for (std::uint64_t seed = 0; seed < problems; seed++) {
    Problem p = random_problem_with(seed % 2 ? 0 : static_cast<unsigned>(seed / 2 % 256), seed);
    p.numerics = seed % 4 ? Numerics::fast : Numerics::exact;
    const Case before(p, seed + 1), after(p, seed);
    for (const Tiling& tiling : tilings(p, seed)) {
      SCOPED_TRACE(to_string(p) + ": " + tiling.to_string());
      const int threads = 1 + static_cast<int>(seed % 2);
      Plan plan(p, before.weights, before.bias, with(after, tiling, threads));
      const Storage expected = after.run(with(after, tiling));
      Storage got(p.output_type(), p.output_elements());
      std::memset(got.data(), 0xff, got.bytes());
      plan.set_weights(after.weights, after.bias);
      EXPECT_EQ(plan.tiling(), Plan(p, after.weights, after.bias, with(after, tiling, threads)).tiling());
      plan.run(after.tensors(got));
      ASSERT_EQ(differing(expected, got), 0);
      // What is refused changes nothing.
      const std::vector<float> short_bias(after.bias.begin(), after.bias.end() - 1);
      std::vector<std::span<const float>> wrong = after.weights;
      wrong.back() = wrong.back().first(wrong.back().size() - 1);
      EXPECT_THROW(plan.set_weights(wrong, after.bias), core::Error);
      if (!short_bias.empty()) {
        EXPECT_THROW(plan.set_weights(before.weights, short_bias), core::Error);
      }
      EXPECT_THROW(plan.set_weights({}, after.bias), core::Error);
      plan.run(after.tensors(got));
      ASSERT_EQ(differing(expected, got), 0);
      done++;
    }
  }
  EXPECT_GT(done, static_cast<int>(problems));
}

TEST(SetWeights, NoBiasIsZeros) {
  const Case c("n1c19h9w9k7");
  const std::vector<float> zeros(c.bias.size(), 0.0f);
  for (const Tiling& tiling : tilings(c.problem, 0)) {
    Plan plan(c.problem, c.weights, c.bias, with(c, tiling));
    Storage got(DataType::f32, c.problem.output_elements()),
        expected(DataType::f32, c.problem.output_elements());
    plan.set_weights(c.weights, {});
    plan.run(c.tensors(got));
    Plan(c.problem, c.weights, zeros, with(c, tiling)).run(c.tensors(expected));
    EXPECT_EQ(differing(expected, got), 0) << tiling.to_string();
  }
}

TEST(Scale, IsAskedFor) {
  const Case c("n1c8h9w9k3+scale");
  try {
    const Plan plan(c.problem, c.weights, c.bias, portable_options());
    ADD_FAILURE() << "made without a scale";
  } catch (const core::Error& e) {
    EXPECT_NE(std::string(e.what()).find("scale is absent"), std::string::npos) << e.what();
  }
}

}  // namespace
}  // namespace replk::depthwise
