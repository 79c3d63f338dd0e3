// Every place that allocates while gradients are planned, given other weights and run, made to fail in turn.
#include <gtest/gtest.h>

#include <cmath>
#include <string>
#include <vector>

#include "core/error.hpp"
#include "replk/replk.h"
#include "tests/api/random_floats.hpp"
#include "tests/support/fail_each.hpp"
#include "tests/support/failing_allocations.hpp"

namespace replk {
namespace {

/// As an exception, with what the library said.
void check(replk_status status) {
  if (status != REPLK_OK) throw core::Error(static_cast<core::Status>(status), replk_last_error());
}

class Gradient {
 public:
  Gradient(const std::string& shape, const float* const* weights) {
    replk_depthwise_gradient_options options = replk_depthwise_gradient_options_default();
    options.threads = 1;
    check(replk_depthwise_gradient_create_from_shape(shape.c_str(), weights, &options, &plan));
  }
  ~Gradient() { replk_depthwise_gradient_destroy(plan); }
  Gradient(const Gradient&) = delete;
  Gradient& operator=(const Gradient&) = delete;

  replk_depthwise_gradient* plan = nullptr;
};

class GradientAllocationFailure : public testing::TestWithParam<const char*> {};

TEST_P(GradientAllocationFailure, EachPlaceGivesAnErrorAndLeavesNothing) {
  if (!test::allocations::can_fail) GTEST_SKIP() << "a sanitizer owns malloc here";
  const std::string shape = GetParam();
  constexpr int batch = 2, channels = 8, area = 12 * 13;
  const int taps = shape.find("k3") != std::string::npos ? 9 : 169;
  const std::vector<float> weights = random_floats(channels * taps, 1),
                           src = random_floats(batch * channels * area, 2),
                           dy = random_floats(batch * channels * area, 3);
  const float* pointers[] = {weights.data()};
  test::fail_each_place(shape, [&](const auto& start) {
    std::vector<float> results(src.size() + weights.size() + channels, NAN);
    float* const dweights[] = {results.data() + src.size()};
    start();
    const Gradient gradient(shape, pointers);
    check(replk_depthwise_gradient_set_weights(gradient.plan, pointers));
    check(replk_depthwise_gradient_input(gradient.plan, dy.data(), results.data(), nullptr));
    check(replk_depthwise_gradient_weights(gradient.plan, src.data(), dy.data(), dweights,
                                           dweights[0] + weights.size(), 0, nullptr));
    return results;
  });
}

INSTANTIATE_TEST_SUITE_P(, GradientAllocationFailure,
                         testing::Values("n2c8h12w13k3", "n2c8h12w13k3exact", "n2c8h12w13k13",
                                         "n2c8h12w13k13nchw"),
                         [](const auto& info) { return std::string(info.param); });

}  // namespace
}  // namespace replk
