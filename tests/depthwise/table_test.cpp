// Class fast within its bound on the shapes that large kernels are measured on, whole and in every storage
// type.
#include <gtest/gtest.h>

#include <cmath>

#include "core/cpu.hpp"
#include "jit/x64/code.hpp"
#include "tests/depthwise/case.hpp"

namespace replk::depthwise {
namespace {

/// Channel scales from 1e-3 to 1e3 side by side; narrow types hold fewer.
void scale_channels(Case& c) {
  const int decades = c.problem.type == DataType::f16 ? 1 : 3;
  for (int channel = 0; channel < c.problem.channels; channel++) {
    const float scale = std::pow(10.0f, static_cast<float>(channel % (2 * decades + 1) - decades));
    for (std::size_t b = 0; b < c.problem.branches.size(); b++) {
      const int taps = c.problem.branches[b].taps();
      for (int t = 0; t < taps; t++)
        c.branch_weights[b][static_cast<std::size_t>(channel) * taps + t] *= scale;
    }
    c.bias[channel] *= scale;
  }
}

class Table : public testing::TestWithParam<const char*> {};

TEST_P(Table, IsWithinTheBound) {
  const Isa isa = jit::code_allowed() ? core::cpu().isa : Isa::portable;
  if (isa == Isa::portable) GTEST_SKIP() << "only the portable algorithm runs here, which is of class exact";
  for (const char* type : {"", "bf16", "fp16"})
    for (const float mean : {0.0f, 1.0f}) {
      Case c(std::string(GetParam()) + type, 21, mean);
      scale_channels(c);
      int tried = 0;
      for (const Algorithm* algorithm : algorithms()) {
        if (algorithm->exact()) continue;  // its bits are another test's
        const auto found = algorithm->candidates(request_of(c.problem, isa));
        if (found.empty()) continue;
        tried++;
        PlanOptions options;
        options.threads = 1;
        options.tiling = found.front().tiling;
        Storage dst = c.run(options);
        const auto samples = sampled_outputs(c.problem, 4000, 7);
        const Tensors tensors = c.tensors(dst);
        const auto expected = reference(c.problem, c.weights, c.bias, tensors, samples);
        EXPECT_LE(compare(c.problem, c.weights, c.bias, tensors, samples, expected).max_of_allowed, 1)
            << to_string(c.problem) << " mean " << mean << " " << found.front().tiling.to_string();
      }
      EXPECT_GT(tried, 0);
    }
}

INSTANTIATE_TEST_SUITE_P(Shapes, Table,
                         testing::Values("n1c128h56w56k31", "n1c256h28w28k29", "n1c512h14w14k27",
                                         "n1c1024h7w7k13", "n1c384h32w32k31", "n1c384h16w16k31",
                                         "n1c128h96w96k31", "n1c256h48w48k29", "n1c512h24w24k27",
                                         "n1c1024h12w12k13", "n1c128h56w56k51x5", "n1c128h56w56k5x51",
                                         "n1c124h56w56k51x5,5x51,5x5", "n1c128h56w56k9", "n1c128h56w56k13",
                                         "n1c128h56w56k17", "n1c128h56w56k21", "n1c512h14w14k13",
                                         "n1c96h56w56k7", "n1c192h28w28k7", "n1c384h14w14k7", "n1c768h7w7k7",
                                         "n1c128h56w56k3", "n1c128h56w56k5", "n1c64h512w128k31",
                                         "n1c32h1024w1024k31"));

}  // namespace
}  // namespace replk::depthwise
