// Depthwise convolution behind the C API.
#include "api/depthwise.hpp"

#include <cstddef>
#include <memory>
#include <string>
#include <vector>

#include "api/guard.hpp"
#include "api/pool.hpp"
#include "api/problem.hpp"

using namespace replk;
using api::check_workspace;
using api::Given;
using api::guarded;
using api::not_null;
using api::read_problem;

// What the first header had: what is behind came later, and not into its padding.
static_assert(offsetof(replk_depthwise_options, scale) == 32);

namespace {

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
    if (workspace) check_workspace(p.workspace_bytes(), workspace, workspace_bytes);
    p.run({src, dst, residual}, {.workspace = workspace});
  });
}

replk_status replk_depthwise_run_with(const replk_depthwise* plan, const void* src, void* dst,
                                      const void* residual, const replk_run_options* options) {
  return guarded([&] {
    const depthwise::Plan& p = not_null(plan, "plan").plan;
    const replk_run_options o = api::read_run_options(options, p.workspace_bytes());
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
