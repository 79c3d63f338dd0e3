// Dense layers against double sums, through every primitive that this machine offers.
#include "dense/dense.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <random>
#include <thread>

#include "core/error.hpp"
#include "core/memory.hpp"

namespace replk::dense {
namespace {

using Values = core::Buffer<float>;

Values random_values(std::size_t count, unsigned seed, float scale = 1) {
  std::mt19937 random(seed);
  std::uniform_real_distribution<float> uniform(-scale, scale);
  Values values(count);
  for (float& v : values) v = uniform(random);
  return values;
}

std::span<const float> view(const Values& v) {
  return {v.data(), v.size()};
}

double activate(double x, Activation activation) {
  if (activation == Activation::relu) return x > 0 ? x : 0;
  if (activation == Activation::gelu) return 0.5 * x * (1 + std::erf(x / std::sqrt(2.0)));
  return x;
}

/// What the layer is, in double; a linear layer is the 1x1 convolution of a map one pixel high.
std::vector<double> reference(const Convolution& c, const Values& x, const Values& w, const Values& bias,
                              const float* residual) {
  std::vector<double> y;
  for (int n = 0; n < c.batch; n++)
    for (int oy = 0; oy < c.out_height(); oy++)
      for (int ox = 0; ox < c.out_width(); ox++)
        for (int o = 0; o < c.outputs; o++) {
          double sum = c.bias ? bias[o] : 0;
          for (int i = 0; i < c.inputs; i++)
            for (int a = 0; a < c.kernel_h; a++)
              for (int b = 0; b < c.kernel_w; b++) {
                const int iy = oy * c.stride_h + a - c.pad_h, ix = ox * c.stride_w + b - c.pad_w;
                if (iy < 0 || iy >= c.height || ix < 0 || ix >= c.width) continue;
                sum += double(x[((std::size_t(n) * c.height + iy) * c.width + ix) * c.inputs + i]) *
                       w[((std::size_t(o) * c.inputs + i) * c.kernel_h + a) * c.kernel_w + b];
              }
          sum = activate(sum, c.activation);
          y.push_back(residual ? sum + residual[y.size()] : sum);
        }
  return y;
}

double largest_error(const std::vector<double>& wanted, const Values& got) {
  double largest = 0, error = 0;
  for (std::size_t i = 0; i < wanted.size(); i++) {
    largest = std::max(largest, std::abs(wanted[i]));
    error = std::max(error, std::isfinite(got[i]) ? std::abs(wanted[i] - got[i]) : 1e30);
  }
  return error / largest;
}

Convolution as_convolution(const Linear& l) {
  Convolution c;
  c.width = int(l.rows);
  c.inputs = l.inputs;
  c.outputs = l.outputs;
  c.bias = l.bias;
  c.activation = l.activation;
  return c;
}

struct LinearCase {
  Values src, weights, bias, residual;
  std::shared_ptr<LinearWeights> packed;
  std::vector<double> wanted;
  explicit LinearCase(const Linear& l)
      : src(random_values(l.rows * l.inputs, 1)),
        weights(random_values(std::size_t(l.inputs) * l.outputs, 2, 1 / std::sqrt(float(l.inputs)))),
        bias(random_values(l.bias ? l.outputs : 0, 3)),
        residual(random_values(l.rows * l.outputs, 4)),
        packed(std::make_shared<LinearWeights>(l.inputs, l.outputs, view(weights), view(bias))),
        wanted(reference(as_convolution(l), src, weights, bias, l.residual ? residual.data() : nullptr)) {}
};

TEST(Linear, EveryChoiceComputesEveryEpilogue) {
  const Linear cases[] = {
      {.rows = 49, .inputs = 64, .outputs = 96, .activation = Activation::gelu},
      {.rows = 49, .inputs = 96, .outputs = 64, .residual = true},
      {.rows = 1, .inputs = 124, .outputs = 1000},
      {.rows = 197, .inputs = 31, .outputs = 17, .activation = Activation::relu, .residual = true},
      {.rows = 7, .inputs = 499, .outputs = 1, .bias = false},
      {.rows = 300,
       .inputs = 1,
       .outputs = 33,
       .bias = false,
       .activation = Activation::gelu,
       .residual = true},
  };
  for (const Linear& l : cases) {
    const LinearCase data(l);
    for (int threads : {1, 2})
      for (const std::string& choice : candidates(l, threads)) {
        SCOPED_TRACE(::testing::Message() << l.rows << "x" << l.inputs << "x" << l.outputs << " " << choice);
        const LinearPlan plan(l, data.packed, {.threads = threads, .choice = choice});
        core::Buffer<char> scratch(plan.scratch_bytes());
        Values dst(l.rows * l.outputs);
        plan.run(data.src.data(), dst.data(), l.residual ? data.residual.data() : nullptr, scratch.data());
        EXPECT_LE(largest_error(data.wanted, dst), 1e-6);
        if (!l.residual) continue;
        std::copy(data.residual.begin(), data.residual.end(), dst.begin());
        plan.run(data.src.data(), dst.data(), dst.data(), scratch.data());
        EXPECT_LE(largest_error(data.wanted, dst), 1e-6) << "in place";
      }
  }
}

TEST(Linear, EveryBlockingOfTheGeneratedProductIsRight) {
  const Linear cases[] = {
      {.rows = 49, .inputs = 70, .outputs = 48, .activation = Activation::gelu},
      {.rows = 61, .inputs = 70, .outputs = 37, .residual = true},
      {.rows = 61, .inputs = 70, .outputs = 37, .activation = Activation::relu, .residual = true},
      {.rows = 5, .inputs = 3, .outputs = 65, .bias = false},
      {.rows = 1,
       .inputs = 64,
       .outputs = 15,
       .bias = false,
       .activation = Activation::gelu,
       .residual = true},
  };
  if (candidates(cases[0], 1).size() == 1) GTEST_SKIP() << "no code can be generated here";
  for (const Linear& l : cases) {
    const LinearCase data(l);
    for (const char* choice : {"gemm depth=512 rows=64", "gemm depth=7 rows=13", "gemm depth=1 rows=1"})
      for (int threads : {1, 2, 3}) {
        SCOPED_TRACE(::testing::Message() << l.rows << "x" << l.inputs << "x" << l.outputs << " " << choice);
        const LinearPlan plan(l, data.packed, {.threads = threads, .choice = choice});
        const std::size_t guard = 64;  // nothing may be written behind the tensor
        Values dst(l.rows * l.outputs + guard);
        std::fill(dst.begin(), dst.end(), -7.0f);
        plan.run(data.src.data(), dst.data(), l.residual ? data.residual.data() : nullptr, nullptr);
        for (std::size_t i = data.wanted.size(); i < dst.size(); i++) ASSERT_EQ(dst[i], -7.0f);
        EXPECT_LE(largest_error(data.wanted, dst), 1e-6);
        if (!l.residual) continue;
        std::copy(data.residual.begin(), data.residual.end(), dst.begin());
        plan.run(data.src.data(), dst.data(), dst.data(), nullptr);
        EXPECT_LE(largest_error(data.wanted, dst), 1e-6) << "in place";
      }
  }
}

TEST(Linear, NaNsAndInfinitiesStayInTheirRow) {
  const Linear l{.rows = 13, .inputs = 32, .outputs = 40, .activation = Activation::gelu};
  LinearCase data(l);
  data.src[5 * 32 + 3] = std::numeric_limits<float>::quiet_NaN();
  for (const std::string& choice : candidates(l, 1)) {
    const LinearPlan plan(l, data.packed, {.threads = 1, .choice = choice});
    core::Buffer<char> scratch(plan.scratch_bytes());
    Values dst(l.rows * l.outputs);
    plan.run(data.src.data(), dst.data(), nullptr, scratch.data());
    for (int r = 0; r < 13; r++)
      for (int o = 0; o < 40; o++) {
        // oneDNN's GELU need not pass a NaN on.
        const bool finite = std::isfinite(dst[r * 40 + o]);
        EXPECT_TRUE(finite == (r != 5) || (r == 5 && choice.starts_with("onednn"))) << choice << " row " << r;
      }
  }
}

TEST(Linear, ChoicesFromOutsideAreJudged) {
  const Linear l{.rows = 13, .inputs = 32, .outputs = 40};
  const LinearCase data(l);
  for (const char* choice : {"", "gemm", "gemm depth=0 rows=8", "gemm depth=8 rows=-1",
                             "gemm depth=8 rows=8 x", "gemm depth=99999999999 rows=8",
                             "gemm depth=513 rows=8", "onednn primitive=convolution implementation=ref:any"})
    EXPECT_THROW(LinearPlan(l, data.packed, {.threads = 1, .choice = choice}), core::Error) << choice;
}

TEST(Linear, TheFirstChoiceIsTheOneTaken) {
  const Linear l{.rows = 49, .inputs = 64, .outputs = 32};
  const LinearCase data(l);
  const LinearPlan plan(l, data.packed, {.threads = 1});
  EXPECT_EQ(plan.choice(), candidates(l, 1).front());
  EXPECT_EQ(plan.source(), "analytic");
}

TEST(Linear, WeightsStayNearOneCopy) {
  const Linear small{.rows = 49, .inputs = 256, .outputs = 256},
      large{.rows = 784, .inputs = 256, .outputs = 256};
  const LinearCase data(small);
  const std::size_t raw = data.weights.size() * sizeof(float);
  {
    const LinearPlan a(small, data.packed), b(large, data.packed);
    EXPECT_EQ(a.choice(), b.choice());
    EXPECT_LE(data.packed->bytes(), raw * 11 / 10);
  }
  // Through every form and back, with no plan alive in between: always one, and never a lost weight.
  for (int round = 0; round < 2; round++)
    for (const std::string& choice : candidates(small, 1)) {
      const LinearPlan plan(small, data.packed, {.threads = 1, .choice = choice});
      EXPECT_LE(data.packed->bytes(), raw * 11 / 10) << choice;
      core::Buffer<char> scratch(plan.scratch_bytes());
      Values dst(small.rows * small.outputs);
      plan.run(data.src.data(), dst.data(), nullptr, scratch.data());
      EXPECT_LE(largest_error(data.wanted, dst), 1e-6) << choice;
    }
}

TEST(Linear, ManyThreadsRunOnePlan) {
  const Linear l{.rows = 100, .inputs = 64, .outputs = 64, .activation = Activation::gelu};
  const LinearCase data(l);
  const LinearPlan plan(l, data.packed, {.threads = 2});
  std::vector<double> errors(8);
  std::vector<std::thread> pool;
  for (double& error : errors)
    pool.emplace_back([&] {
      core::Buffer<char> scratch(plan.scratch_bytes());
      for (int i = 0; i < 20; i++) {
        Values dst(l.rows * l.outputs);
        plan.run(data.src.data(), dst.data(), nullptr, scratch.data());
        error = std::max(error, largest_error(data.wanted, dst));
      }
    });
  for (std::thread& t : pool) t.join();
  for (double error : errors) EXPECT_LE(error, 1e-6);
}

TEST(Linear, WrongUseNamesTheField) {
  const Values weights = random_values(64 * 32, 1);
  const auto message = [](const auto& f) {
    try {
      f();
    } catch (const core::Error& e) {
      EXPECT_EQ(e.status(), core::Status::invalid_argument);
      return std::string(e.what());
    }
    return std::string("no error");
  };
  EXPECT_NE(message([&] { LinearWeights(64, 31, view(weights), {}); }).find("number of weights"),
            std::string::npos);
  const auto packed = std::make_shared<LinearWeights>(64, 32, view(weights), std::span<const float>{});
  EXPECT_NE(message([&] { LinearPlan({.rows = 1, .inputs = 64, .outputs = 32}, packed); }).find("bias"),
            std::string::npos);
  EXPECT_NE(message([&] {
              LinearPlan({.rows = 0, .inputs = 64, .outputs = 32, .bias = false}, packed);
            }).find("rows"),
            std::string::npos);
  EXPECT_NE(message([&] {
              LinearPlan({.rows = 1, .inputs = 64, .outputs = 32, .bias = false}, packed,
                         {.choice = "onednn x"});
            }).find("onednn x"),
            std::string::npos);
}

TEST(DenseConvolution, EveryChoiceComputesStemsAndTransitions) {
  const Convolution cases[] = {
      {.batch = 2,
       .inputs = 3,
       .outputs = 24,
       .height = 17,
       .width = 14,
       .kernel_h = 3,
       .kernel_w = 3,
       .stride_h = 2,
       .stride_w = 2,
       .pad_h = 1,
       .pad_w = 1,
       .activation = Activation::relu},
      {.batch = 1,
       .inputs = 3,
       .outputs = 40,
       .height = 19,
       .width = 16,
       .kernel_h = 4,
       .kernel_w = 4,
       .stride_h = 4,
       .stride_w = 4},
      {.batch = 1,
       .inputs = 31,
       .outputs = 62,
       .height = 9,
       .width = 8,
       .kernel_h = 2,
       .kernel_w = 2,
       .stride_h = 2,
       .stride_w = 2,
       .bias = false},
      {.batch = 3,
       .inputs = 16,
       .outputs = 32,
       .height = 7,
       .width = 7,
       .kernel_h = 3,
       .kernel_w = 3,
       .stride_h = 2,
       .stride_w = 2,
       .pad_h = 1,
       .pad_w = 1,
       .activation = Activation::gelu},
  };
  for (const Convolution& c : cases) {
    const Values src = random_values(c.batch * c.height * c.width * c.inputs, 1);
    const Values weights =
        random_values(std::size_t(c.outputs) * c.inputs * c.kernel_h * c.kernel_w, 2, 0.2f);
    const Values bias = random_values(c.bias ? c.outputs : 0, 3);
    const auto packed = std::make_shared<ConvolutionWeights>(c.inputs, c.outputs, c.kernel_h, c.kernel_w,
                                                             view(weights), view(bias));
    const std::vector<double> wanted = reference(c, src, weights, bias, nullptr);
    for (int threads : {1, 2})
      for (const std::string& choice : candidates(c, threads)) {
        SCOPED_TRACE(::testing::Message()
                     << c.kernel_h << " " << c.inputs << "->" << c.outputs << " " << choice);
        const ConvolutionPlan plan(c, packed, {.threads = threads, .choice = choice});
        core::Buffer<char> scratch(plan.scratch_bytes());
        Values dst(wanted.size());
        plan.run(src.data(), dst.data(), scratch.data());
        EXPECT_LE(largest_error(wanted, dst), 1e-6);
      }
  }
}

}  // namespace
}  // namespace replk::dense
