// The number of threads that is asked for bounds planning too, not only runs. OpenMP keeps its threads, so
// their number afterwards is the largest there was. The environment says that the default is four.
#include <gtest/gtest.h>

#include <cmath>
#include <span>
#include <string>
#include <vector>

#include "core/threads.hpp"
#include "dense/choice.hpp"
#include "dense/dense.hpp"
#include "depthwise/choose/choice.hpp"
#include "depthwise/plan.hpp"
#include "goldens.hpp"
#include "model/gradient.hpp"
#include "model/network.hpp"
#include "tests/support/thread_count.hpp"
#include "tuner/tuner.hpp"

namespace replk {
namespace {

std::vector<float> numbers(std::size_t count) {
  std::vector<float> values(count);
  for (std::size_t i = 0; i < count; i++) values[i] = std::sin(0.37f * static_cast<float>(i % 9973));
  return values;
}

void plan_depthwise(int threads) {
  // Many channels: spectra are packed in as many tasks as there may be threads.
  for (const char* shape : {"n1c512h14w14k13", "n1c512h14w14k13x3,3x13", "n1c512h14w14k7+relu"}) {
    const depthwise::Problem problem = depthwise::parse(shape);
    std::vector<std::vector<float>> weights;
    for (const auto& branch : problem.branches) weights.push_back(numbers(std::size_t{512} * branch.taps()));
    const std::vector<std::span<const float>> spans(weights.begin(), weights.end());
    const std::vector<float> bias = numbers(512), src = numbers(problem.input_elements());
    std::vector<float> dst(problem.output_elements());
    const depthwise::Request request(problem, depthwise::Pass::forward, depthwise::plan_features({}),
                                     threads);
    for (const depthwise::Algorithm* algorithm : depthwise::algorithms()) {
      const auto found = algorithm->candidates(request, 1);
      if (found.empty()) continue;
      depthwise::PlanOptions options;
      options.threads = threads;
      options.tiling = found.front().tiling;
      const depthwise::Plan plan(problem, spans, bias, options);
      plan.run({src.data(), dst.data(), nullptr});
    }
  }
}

void plan_linear(int threads) {
  const dense::Linear linear{64, 200, 300};
  const std::vector<float> weights = numbers(200 * 300), bias = numbers(300), src = numbers(64 * 200);
  std::vector<float> dst(64 * 300);
  const auto packed = std::make_shared<dense::LinearWeights>(200, 300, weights, bias);
  for (const std::string& choice : dense::candidates(linear, threads)) {
    dense::PlanOptions options;
    options.threads = threads;
    options.choice = choice;
    const dense::LinearPlan plan(linear, packed, options);
    std::vector<char> scratch(plan.scratch_bytes() + 64);
    plan.run(src.data(), dst.data(), nullptr,
             scratch.data() + (64 - reinterpret_cast<std::uintptr_t>(scratch.data()) % 64));
  }
}

void plan_convolution(int threads) {
  dense::Convolution c;
  c.inputs = 40, c.outputs = 50, c.height = c.width = 20, c.kernel_h = c.kernel_w = 3, c.pad_h = c.pad_w = 1;
  const std::vector<float> weights = numbers(40 * 50 * 9), bias = numbers(50), src = numbers(40 * 400);
  std::vector<float> dst(50 * 400);
  const auto packed = std::make_shared<dense::ConvolutionWeights>(40, 50, 3, 3, weights, bias);
  for (const std::string& choice : dense::candidates(c, threads)) {
    dense::PlanOptions options;
    options.threads = threads;
    options.choice = choice;
    const dense::ConvolutionPlan plan(c, packed, options);
    std::vector<char> scratch(plan.scratch_bytes() + 64);
    plan.run(src.data(), dst.data(),
             scratch.data() + (64 - reinterpret_cast<std::uintptr_t>(scratch.data()) % 64));
  }
}

void plan_networks(int threads) {
  for (const char* name : {"replknet", "convnext", "mobilenetv2", "unireplknet"}) {
    model::NetworkOptions options;
    options.threads = threads;
    model::Network network(model::golden_architecture(name), *model::open_safetensors(model::golden(name)),
                           options);
    const std::vector<float> pixels = numbers(std::size_t{2} * 64 * 64 * 3);
    std::vector<float> logits(std::size_t{2} * network.classes());
    network.run({pixels.data(), 2, 64, 64}, {logits.data(), {}});
    const model::Gradient gradient(network, 64, 64);
  }
}

/// Plans are also made in races.
void race(int threads) {
  const tuner::Settings before = tuner::settings();
  tuner::change_settings([](tuner::Settings& settings) {
    settings.mode = tuner::Mode::now;
    settings.budget_seconds = 0.05;
    settings.again = true;
  });
  const dense::LinearPlan plan({64, 72, 80},
                               std::make_shared<dense::LinearWeights>(72, 80, numbers(72 * 80), numbers(80)),
                               {.threads = threads});
  EXPECT_EQ(plan.source(), "measured");
  const std::vector<float> kernel = numbers(64 * 49), bias = numbers(64);
  const std::span<const float> spans[] = {kernel};
  depthwise::PlanOptions options;
  options.threads = threads;
  EXPECT_EQ(depthwise::Plan(depthwise::parse("n1c64h14w14k7"), spans, bias, options).source(), "measured");
  tuner::change_settings([&](tuner::Settings& settings) { settings = before; });
}

TEST(Planning, UsesNoMoreThreadsThanAreAskedFor) {
  ASSERT_EQ(core::default_threads(), 4) << "the environment says so";
  const int others = test::thread_count() - 1;  // a sanitizer's
  ASSERT_GE(others, 0);
  for (const int threads : {1, 2})  // ascending: the larger number stays
    for (const auto plan : {plan_depthwise, plan_linear, plan_convolution, plan_networks, race}) {
      plan(threads);
      ASSERT_LE(test::thread_count() - others, threads);
    }
}

}  // namespace
}  // namespace replk
