// Depthwise convolution behind the C API.
#include <array>
#include <cstddef>
#include <memory>
#include <string>
#include <vector>

#include "api/guard.hpp"
#include "api/pool.hpp"
#include "depthwise/plan.hpp"

using namespace replk;
using api::guarded;
using api::not_null;
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
static_assert(offsetof(replk_depthwise_options, scale) == 32);
static_assert(static_cast<int>(depthwise::Numerics::exact) == REPLK_EXACT);

struct replk_depthwise {
  depthwise::Plan plan;
  std::string shape, tiling;
};

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

depthwise::Problem read_problem(const replk_depthwise_problem* given) {
  const replk_depthwise_problem p = api::read(given, replk_depthwise_problem_default(),
                                              offsetof(replk_depthwise_problem, input_strides), "problem");
  depthwise::Problem problem;
  problem.batch = p.batch;
  if (p.channel_multiplier < 1 || p.channel_multiplier > 4)
    fail(Status::invalid_argument, "channel_multiplier is {}; allowed: 1 to 4", p.channel_multiplier);
  problem.multiplier = p.channel_multiplier;
  // A product that does not fit is out of range anyway.
  problem.channels = p.channels <= INT32_MAX / 4 ? p.channels * p.channel_multiplier : p.channels;
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

/// The spans of a caller's weights; allocates nothing.
struct Given {
  std::array<std::span<const float>, 16> all;
  std::size_t count = 0;
  std::span<const float> bias;

  Given(const depthwise::Problem& problem, const float* const* weights, const float* given_bias) {
    not_null(weights, "weights");
    for (const depthwise::Branch& b : problem.branches) {
      const float* w = &not_null(weights[count], "a branch's weights");
      all[count++] = {w, static_cast<std::size_t>(problem.channels) * b.taps()};
    }
    if (given_bias) bias = {given_bias, static_cast<std::size_t>(problem.channels)};
  }
  std::span<const std::span<const float>> branches() const { return {all.data(), count}; }
};

std::unique_ptr<replk_depthwise> create(const depthwise::Problem& problem, const float* const* weights,
                                        const float* bias, const replk_depthwise_options* given) {
  const Given all(problem, weights, bias);
  depthwise::PlanOptions options;
  if (given) {
    const replk_depthwise_options o = api::read(given, replk_depthwise_options_default(),
                                                offsetof(replk_depthwise_options, scale), "options");
    options.threads = o.threads;
    if (o.algorithm) options.algorithm = o.algorithm;
    if (o.tiling) options.tiling = depthwise::Tiling::parse(o.tiling);
    if (o.scale) options.scale = {o.scale, static_cast<std::size_t>(problem.channels)};
  }
  depthwise::Plan plan(problem, all.branches(), all.bias, options);
  std::string tiling = plan.tiling().to_string();
  return std::unique_ptr<replk_depthwise>(
      new replk_depthwise{std::move(plan), depthwise::to_string(problem), std::move(tiling)});
}

void check_workspace(const depthwise::Plan& plan, const void* workspace, std::size_t bytes) {
  if (bytes < plan.workspace_bytes())
    fail(Status::invalid_argument, "workspace_bytes is {}; allowed: at least {}", bytes,
         plan.workspace_bytes());
  if (reinterpret_cast<std::uintptr_t>(workspace) % 64 != 0)
    fail(Status::invalid_argument, "workspace is at {}; allowed: a multiple of 64", workspace);
}

}  // namespace

replk_status replk_depthwise_create(const replk_depthwise_problem* problem, const float* const* weights,
                                    const float* bias, const replk_depthwise_options* options,
                                    replk_depthwise** plan) {
  return guarded([&] {
    not_null(plan, "plan") = nullptr;
    *plan = create(read_problem(problem), weights, bias, options).release();
  });
}

replk_status replk_depthwise_create_from_shape(const char* shape, const float* const* weights,
                                               const float* bias, const replk_depthwise_options* options,
                                               replk_depthwise** plan) {
  return guarded([&] {
    not_null(plan, "plan") = nullptr;
    *plan = create(depthwise::parse(&not_null(shape, "shape")), weights, bias, options).release();
  });
}

void replk_depthwise_destroy(replk_depthwise* plan) {
  delete plan;
}

replk_status replk_depthwise_output_size(const replk_depthwise* plan, int32_t* height, int32_t* width) {
  return guarded([&] {
    const depthwise::Problem& problem = not_null(plan, "plan").plan.problem();
    not_null(height, "height") = problem.out_height();
    not_null(width, "width") = problem.out_width();
  });
}

replk_status replk_depthwise_workspace_bytes(const replk_depthwise* plan, size_t* bytes) {
  return guarded([&] { not_null(bytes, "bytes") = not_null(plan, "plan").plan.workspace_bytes(); });
}

replk_status replk_depthwise_set_weights(replk_depthwise* plan, const float* const* weights,
                                         const float* bias) {
  return guarded([&] {
    depthwise::Plan& p = not_null(plan, "plan").plan;
    const Given all(p.problem(), weights, bias);
    p.set_weights(all.branches(), all.bias);
  });
}

replk_status replk_depthwise_run(const replk_depthwise* plan, const void* src, void* dst,
                                 const void* residual, void* workspace, size_t workspace_bytes) {
  return guarded([&] {
    const depthwise::Plan& p = not_null(plan, "plan").plan;
    if (workspace) check_workspace(p, workspace, workspace_bytes);
    p.run({src, dst, residual}, {.workspace = workspace});
  });
}

replk_status replk_depthwise_run_with(const replk_depthwise* plan, const void* src, void* dst,
                                      const void* residual, const replk_run_options* options) {
  return guarded([&] {
    const depthwise::Plan& p = not_null(plan, "plan").plan;
    replk_run_options o = replk_run_options_default();
    if (options) o = api::read(options, o, sizeof(replk_run_options), "options");
    if (o.batch < 0) fail(Status::invalid_argument, "batch is {}; allowed: at least 1, or 0", o.batch);
    if (o.workspace) check_workspace(p, o.workspace, o.workspace_bytes);
    const api::Pool pool(o.pool, o.user);
    p.run({src, dst, residual}, {o.batch, o.workspace});
  });
}

const char* replk_depthwise_shape(const replk_depthwise* plan) {
  return plan ? plan->shape.c_str() : "";
}
const char* replk_depthwise_tiling(const replk_depthwise* plan) {
  return plan ? plan->tiling.c_str() : "";
}
const char* replk_depthwise_source(const replk_depthwise* plan) {
  return plan ? plan->plan.source().c_str() : "";
}
