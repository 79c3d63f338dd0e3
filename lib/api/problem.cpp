#include "api/problem.hpp"

#include <cstdint>
#include <optional>

#include "api/guard.hpp"

namespace replk::api {

using core::fail;
using core::Status;

static_assert(static_cast<int>(Layout::nhwc) == REPLK_NHWC && static_cast<int>(Layout::nchw) == REPLK_NCHW);
static_assert(static_cast<int>(DataType::bf16) == REPLK_BF16 && static_cast<int>(DataType::f16) == REPLK_F16);
static_assert(static_cast<int>(Activation::relu) == REPLK_RELU &&
              static_cast<int>(Activation::gelu) == REPLK_GELU &&
              static_cast<int>(Activation::silu) == REPLK_SILU &&
              static_cast<int>(Activation::hard_swish) == REPLK_HARD_SWISH);
// What the first header had: what is behind came later, and not into its padding.
static_assert(offsetof(replk_depthwise_problem, input_strides) == 88);
static_assert(static_cast<int>(depthwise::Numerics::exact) == REPLK_EXACT);

namespace {

template <class Enum>
Enum in_range(int value, int last, const char* field) {
  if (value < 0 || value > last)
    fail(Status::invalid_argument, "{} is {}; allowed: 0 to {}", field, value, last);
  return static_cast<Enum>(value);
}

std::optional<depthwise::Strides> strides(const replk_strides& s) {
  if (s.image == 0 && s.row == 0 && s.pixel == 0 && s.channel == 0) return std::nullopt;
  return depthwise::Strides{s.image, s.row, s.pixel, s.channel};
}

depthwise::Padding both_sides(int given, const depthwise::Padding& standard, const char* field) {
  if (given == -1) return standard;
  if (given < 0)
    fail(Status::invalid_argument,
         "padding on both sides ({}) is {}; allowed: 0 to 1023, or -1 for the default (sides that crop are "
         "given one by one)",
         field, given);
  return {given, given};
}

}  // namespace

depthwise::Problem read_problem(const replk_depthwise_problem* given) {
  const replk_depthwise_problem p = api::read(given, replk_depthwise_problem_default(),
                                              offsetof(replk_depthwise_problem, input_strides), "problem");
  depthwise::Problem problem;
  problem.batch = p.batch;
  if (p.channel_multiplier < 1 || p.channel_multiplier > 4)
    fail(Status::invalid_argument, "channel_multiplier is {}; allowed: 1 to 4", p.channel_multiplier);
  problem.multiplier = p.channel_multiplier;
  // What has no product is out of range anyway.
  const bool fits = p.channels > 0 && p.channels <= INT32_MAX / 4;
  problem.channels = fits ? p.channels * p.channel_multiplier : p.channels;
  problem.height = p.height;
  problem.width = p.width;
  if (p.branch_count < 1 || p.branch_count > 16)
    fail(Status::invalid_argument, "branch_count is {}; allowed: 1 to 16", p.branch_count);
  not_null(p.branches, "branches");
  problem.branches.clear();
  for (int i = 0; i < p.branch_count; i++) {
    const replk_branch& b = p.branches[i];
    problem.branches.push_back({b.kernel_h, b.kernel_w, b.dilation_h, b.dilation_w});
    depthwise::validate(problem.branches.back());  // before anything is computed from it
  }
  depthwise::set_default_padding(problem);
  if (p.explicit_padding) {
    problem.pad_h = {p.pad_top, p.pad_bottom};
    problem.pad_w = {p.pad_left, p.pad_right};
  } else {
    problem.pad_h = both_sides(p.pad_h, problem.pad_h, "pad_h");
    problem.pad_w = both_sides(p.pad_w, problem.pad_w, "pad_w");
  }
  problem.stride_h = p.stride_h;
  problem.stride_w = p.stride_w;
  problem.layout = in_range<Layout>(p.layout, REPLK_NCHW, "layout");
  problem.type = in_range<DataType>(p.type, REPLK_F16, "type");
  problem.numerics = in_range<depthwise::Numerics>(p.numerics, REPLK_EXACT, "numerics");
  problem.epilogue = {p.bias != 0, in_range<Activation>(p.activation, REPLK_HARD_SWISH, "activation"),
                      p.residual != 0, p.scale != 0};
  if (p.output_layout != -1 && p.output_layout != p.layout)
    problem.out_layout = in_range<Layout>(p.output_layout, REPLK_NCHW, "output_layout");
  problem.src_strides = strides(p.input_strides);
  problem.dst_strides = strides(p.output_strides);
  depthwise::validate(problem);
  return problem;
}

Given::Given(const depthwise::Problem& problem, const float* const* weights, const float* given_bias) {
  not_null(weights, "weights");
  for (const depthwise::Branch& b : problem.branches) {
    const float* w = &not_null(weights[count], "a branch's weights");
    all[count++] = {w, static_cast<std::size_t>(problem.channels) * b.taps()};
  }
  if (given_bias) bias = {given_bias, static_cast<std::size_t>(problem.channels)};
}

void check_workspace(std::size_t needed, const void* workspace, std::size_t bytes) {
  if (bytes < needed)
    fail(Status::invalid_argument, "workspace_bytes is {}; allowed: at least {}", bytes, needed);
  if (reinterpret_cast<std::uintptr_t>(workspace) % 64 != 0)
    fail(Status::invalid_argument, "workspace is at {}; allowed: a multiple of 64", workspace);
}

replk_run_options read_run_options(const replk_run_options* given, std::size_t needed) {
  replk_run_options o = replk_run_options_default();
  if (given) o = api::read(given, o, sizeof(replk_run_options), "options");
  if (o.batch < 0) fail(Status::invalid_argument, "batch is {}; allowed: at least 1, or 0", o.batch);
  if (o.workspace) check_workspace(needed, o.workspace, o.workspace_bytes);
  return o;
}

}  // namespace replk::api
