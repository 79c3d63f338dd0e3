// Depthwise convolution behind the C API.
#include <memory>
#include <string>
#include <vector>

#include "api/guard.hpp"
#include "depthwise/plan.hpp"

using namespace replk;
using api::guarded;
using api::not_null;
using core::fail;
using core::Status;

static_assert(static_cast<int>(Layout::nhwc) == REPLK_NHWC && static_cast<int>(Layout::nchw) == REPLK_NCHW);
static_assert(static_cast<int>(DataType::bf16) == REPLK_BF16 && static_cast<int>(DataType::f16) == REPLK_F16);
static_assert(static_cast<int>(Activation::relu) == REPLK_RELU &&
              static_cast<int>(Activation::gelu) == REPLK_GELU);
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

depthwise::Problem read_problem(const replk_depthwise_problem* given) {
  const replk_depthwise_problem p =
      api::read(given, replk_depthwise_problem_default(), sizeof(replk_depthwise_problem), "problem");
  depthwise::Problem problem;
  problem.batch = p.batch;
  problem.channels = p.channels;
  problem.height = p.height;
  problem.width = p.width;
  if (p.branch_count < 1 || p.branch_count > 16)
    fail(Status::invalid_argument, "branch_count is {}; allowed: 1 to 16", p.branch_count);
  not_null(p.branches, "branches");
  problem.branches.clear();
  for (int i = 0; i < p.branch_count; i++) {
    const replk_branch& b = p.branches[i];
    // Checked before anything is computed from them, as in depthwise::validate.
    for (auto [value, high] :
         {std::pair{b.kernel_h, 63}, {b.kernel_w, 63}, {b.dilation_h, 64}, {b.dilation_w, 64}})
      if (value < 1 || value > high)
        fail(Status::invalid_argument, "a kernel size or dilation of branch {} is {}; allowed: 1 to {}", i,
             value, high);
    problem.branches.push_back({b.kernel_h, b.kernel_w, b.dilation_h, b.dilation_w});
  }
  depthwise::set_default_padding(problem);
  if (p.pad_h != -1) problem.pad_h = p.pad_h;
  if (p.pad_w != -1) problem.pad_w = p.pad_w;
  problem.stride_h = p.stride_h;
  problem.stride_w = p.stride_w;
  problem.layout = in_range<Layout>(p.layout, REPLK_NCHW, "layout");
  problem.type = in_range<DataType>(p.type, REPLK_F16, "type");
  problem.numerics = in_range<depthwise::Numerics>(p.numerics, REPLK_EXACT, "numerics");
  problem.epilogue = {p.bias != 0, in_range<Activation>(p.activation, REPLK_GELU, "activation"),
                      p.residual != 0};
  depthwise::validate(problem);
  return problem;
}

std::unique_ptr<replk_depthwise> create(const depthwise::Problem& problem, const float* const* weights,
                                        const float* bias, const replk_depthwise_options* given) {
  not_null(weights, "weights");
  std::vector<std::span<const float>> branches;
  for (const depthwise::Branch& b : problem.branches) {
    const float* w = &not_null(weights[branches.size()], "a branch's weights");
    branches.emplace_back(w, static_cast<std::size_t>(problem.channels) * b.taps());
  }
  depthwise::PlanOptions options;
  if (given) {
    const replk_depthwise_options o =
        api::read(given, replk_depthwise_options_default(), sizeof(replk_depthwise_options), "options");
    options.threads = o.threads;
    if (o.algorithm) options.algorithm = o.algorithm;
    if (o.tiling) options.tiling = depthwise::Tiling::parse(o.tiling);
  }
  const std::span<const float> bias_span(bias, bias ? problem.channels : 0);
  depthwise::Plan plan(problem, branches, bias_span, options);
  std::string tiling = plan.tiling().to_string();
  return std::unique_ptr<replk_depthwise>(
      new replk_depthwise{std::move(plan), depthwise::to_string(problem), std::move(tiling)});
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

replk_status replk_depthwise_run(const replk_depthwise* plan, const void* src, void* dst,
                                 const void* residual, void* workspace, size_t workspace_bytes) {
  return guarded([&] {
    const depthwise::Plan& p = not_null(plan, "plan").plan;
    const depthwise::Tensors tensors{src, dst, residual};
    if (!workspace) return p.run(tensors);
    if (workspace_bytes < p.workspace_bytes())
      fail(Status::invalid_argument, "workspace_bytes is {}; allowed: at least {}", workspace_bytes,
           p.workspace_bytes());
    if (reinterpret_cast<std::uintptr_t>(workspace) % 64 != 0)
      fail(Status::invalid_argument, "workspace is at {}; allowed: a multiple of 64", workspace);
    p.run(tensors, workspace);
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
