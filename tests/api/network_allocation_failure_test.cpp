// Every place that allocates while a network is read, folded, quantised, planned and run, in each precision,
// and while it is calibrated, made to fail in turn.
#include <gtest/gtest.h>

#include <optional>
#include <string>
#include <vector>

#include "model/calibrate.hpp"
#include "model/network.hpp"
#include "model/quantise_network.hpp"
#include "tests/model/goldens.hpp"
#include "tests/support/fail_each.hpp"
#include "tests/support/failing_allocations.hpp"

namespace replk::model {
namespace {

std::vector<float> logits(Network& network, const GoldenInput& input) {
  std::vector<float> logits(static_cast<std::size_t>(input.batch) * 10);
  network.run({input.pixels.data(), input.batch, input.height, input.width}, {logits.data(), {}});
  return logits;
}

struct Given {
  const char* name;
  std::optional<Precision> precision;
};

class NetworkAllocationFailure : public testing::TestWithParam<Given> {};

TEST_P(NetworkAllocationFailure, EachPlaceGivesAnErrorAndLeavesNothing) {
  if (!test::allocations::can_fail) GTEST_SKIP() << "a sanitizer owns malloc here";
  const auto [name, precision] = GetParam();
  const GoldenInput input = golden_input();
  const Architecture architecture = golden_architecture(name);
  const std::string path = golden(name);
  test::fail_each_place(name, [&, precision = precision](const auto& start) {
    NetworkOptions options;
    options.threads = 1;
    options.precision = precision;
    start();
    Network network(architecture, *open_safetensors(path), options);
    return logits(network, input);
  });
}

std::string name_of(const testing::TestParamInfo<Given>& info) {
  const auto& precision = info.param.precision;
  return info.param.name + (precision ? "_" + std::string(replk::name(*precision)) : "");
}

INSTANTIATE_TEST_SUITE_P(, NetworkAllocationFailure,
                         testing::Values(Given{"convnext", {}}, Given{"replknet", {}},
                                         Given{"convnext", Precision::int8},
                                         Given{"convnextv2", Precision::bf16}),
                         name_of);

TEST(CalibrationAllocationFailure, EachPlaceGivesAnErrorAndLeavesNothing) {
  if (!test::allocations::can_fail) GTEST_SKIP() << "a sanitizer owns malloc here";
  const GoldenInput input = golden_input();
  Architecture architecture = golden_architecture("convnext");
  architecture.classes = 10;
  const auto weights = open_safetensors(golden("convnext"));
  test::fail_each_place("calibration", [&](const auto& start) {
    NetworkOptions options;
    options.threads = 1;
    start();
    Network network(architecture, *weights, options);
    Calibration calibration(network, *weights, 1);
    calibration.add({input.pixels.data(), 1, input.height, input.width});
    Network narrow(architecture,
                   quantise_network(architecture, *weights, {1, calibration.result(), {}}).tensors, options);
    return logits(narrow, input);
  });
}

}  // namespace
}  // namespace replk::model
