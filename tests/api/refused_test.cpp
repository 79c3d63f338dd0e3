// Where the system forbids executable memory: plain code runs, with right results, and one message says so.
#include <gtest/gtest.h>
#include <sys/mman.h>

#include <algorithm>
#include <cerrno>
#include <cmath>
#include <mutex>
#include <string>
#include <vector>

#include "core/memory.hpp"
#include "dense/dense.hpp"
#include "jit/x64/code.hpp"
#include "replk/replk.h"
#include "tests/depthwise/case.hpp"
#include "tests/support/refuse_code.hpp"

namespace replk {
namespace {

std::mutex mutex;
std::vector<std::string> said;

/// Every test leaves exactly one message behind it, whichever of them runs first.
class Refused : public testing::Test {
 protected:
  static void SetUpTestSuite() {
    refused = test::refuse_code();
    replk_set_log_callback(
        [](replk_log_level, const char* message, void*) {
          std::lock_guard lock(mutex);
          said.emplace_back(message);
        },
        nullptr);
  }
  void SetUp() override {
    if (!refused) GTEST_SKIP() << "this system has no seccomp";
  }
  void TearDown() override {
    if (IsSkipped()) return;
    std::lock_guard lock(mutex);
    ASSERT_EQ(said.size(), 1u) << testing::PrintToString(said);
    EXPECT_NE(said[0].find("forbids executable memory"), std::string::npos) << said[0];
  }

 private:
  inline static bool refused = false;
};

TEST_F(Refused, IsWhatThisProcessSees) {
  EXPECT_EQ(mmap(nullptr, 4096, PROT_READ | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0), MAP_FAILED);
  EXPECT_EQ(errno, EPERM);
  replk_cpu_info info{};
  info.struct_size = sizeof info;
  ASSERT_EQ(replk_get_cpu_info(&info), REPLK_OK);
  EXPECT_EQ(info.code_generation, 0);
  EXPECT_FALSE(jit::code_allowed());
}

TEST_F(Refused, DepthwiseIsPortableAndRight) {
  using namespace depthwise;
  for (const char* shape : {"n1c12h20w17k13", "n2c9h14w14k31", "n1c5h30w9k51x5,5x51,5x5+gelu+residual",
                            "n1c7h18w18k5d2s2+relu", "n1c6h15w23k9nchw", "n1c8h12w12k7bf16exact"}) {
    const Case c(shape);
    std::vector<const float*> weights;
    for (const auto& w : c.branch_weights) weights.push_back(w.data());
    replk_depthwise* plan = nullptr;
    ASSERT_EQ(replk_depthwise_create_from_shape(shape, weights.data(), c.bias.data(), nullptr, &plan),
              REPLK_OK)
        << replk_last_error();
    EXPECT_TRUE(std::string(replk_depthwise_tiling(plan)).starts_with("portable"));
    Storage dst(c.problem.output_type(), c.problem.output_elements());
    const Tensors tensors = c.tensors(dst);
    ASSERT_EQ(replk_depthwise_run(plan, tensors.src, tensors.dst, tensors.residual, nullptr, 0), REPLK_OK);
    replk_depthwise_destroy(plan);
    const std::vector<Sample> samples = all_outputs(c.problem);
    const std::vector<double> expected = reference(c.problem, c.weights, c.bias, tensors, samples);
    EXPECT_LE(compare(c.problem, c.weights, c.bias, tensors, samples, expected).max_relative_error,
              c.problem.type == DataType::f32 ? 2e-6 : 1e-2)
        << shape;
  }
}

TEST_F(Refused, AlgorithmsThatNeedCodeSaySo) {
  const std::vector<float> w(4 * 49, 1.0f);
  const float* weights[] = {w.data()};
  replk_depthwise_options options = replk_depthwise_options_default();
  for (const char* algorithm : {"direct", "row-spectral"}) {
    options.algorithm = algorithm;
    replk_depthwise* plan = nullptr;
    EXPECT_EQ(replk_depthwise_create_from_shape("n1c4h9w9k7", weights, nullptr, &options, &plan),
              REPLK_INVALID_ARGUMENT);
    EXPECT_EQ(plan, nullptr);
  }
}

TEST_F(Refused, DenseLayersArePlainAndRight) {
  using namespace dense;
  for (const auto& [inputs, outputs, rows] : {std::tuple{37, 23, 11}, {128, 512, 49}, {520, 10, 1}}) {
    Linear layer;
    layer.rows = rows;
    layer.inputs = inputs;
    layer.outputs = outputs;
    layer.bias = layer.residual = true;
    layer.activation = Activation::relu;
    std::vector<float> w(std::size_t(inputs) * outputs), bias(outputs), src(std::size_t(rows) * inputs),
        dst(std::size_t(rows) * outputs, 0.25f);
    for (std::size_t i = 0; i < w.size(); i++) w[i] = float(i * 37 % 101) / 50 - 1;
    for (std::size_t i = 0; i < bias.size(); i++) bias[i] = float(i % 7) - 3;
    for (std::size_t i = 0; i < src.size(); i++) src[i] = float(i * 53 % 97) / 48 - 1;
    const LinearPlan plan(layer, std::make_shared<LinearWeights>(inputs, outputs, w, bias));
    EXPECT_EQ(plan.implementation(), "plain");
    std::vector<float> scratch(plan.scratch_bytes() / sizeof(float) + 1);
    plan.run(src.data(), dst.data(), dst.data(), scratch.data());
    for (int r = 0; r < rows; r++)
      for (int o = 0; o < outputs; o++) {
        double sum = bias[o], magnitude = 1;
        for (int i = 0; i < inputs; i++) {
          const double product = double(src[std::size_t(r) * inputs + i]) * w[std::size_t(o) * inputs + i];
          sum += product;
          magnitude += std::abs(product);
        }
        ASSERT_NEAR(dst[std::size_t(r) * outputs + o], std::max(sum, 0.0) + 0.25, 1e-6 * magnitude);
      }
  }
}

TEST_F(Refused, ANetworkRunsThroughTheFrontDoor) {
  replk_model* model = nullptr;
  ASSERT_EQ(replk_model_load("replknet-nano", nullptr, nullptr, &model), REPLK_OK) << replk_last_error();
  std::vector<float> pixels(64 * 96 * 3), logits(1000), again(1000);
  for (std::size_t i = 0; i < pixels.size(); i++) pixels[i] = float(i * 31 % 127) / 64 - 1;
  ASSERT_EQ(replk_model_run(model, pixels.data(), 1, 64, 96, logits.data(), nullptr, nullptr), REPLK_OK);
  ASSERT_EQ(replk_model_run(model, pixels.data(), 1, 64, 96, again.data(), nullptr, nullptr), REPLK_OK);
  replk_model_destroy(model);
  EXPECT_EQ(logits, again);
  EXPECT_TRUE(std::all_of(logits.begin(), logits.end(), [](float x) { return std::isfinite(x); }));
  EXPECT_GT(*std::max_element(logits.begin(), logits.end()), *std::min_element(logits.begin(), logits.end()));
}

}  // namespace
}  // namespace replk
