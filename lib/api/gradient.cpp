// The gradients of a depthwise convolution behind the C API.
#include <algorithm>
#include <cstddef>
#include <memory>
#include <optional>
#include <span>

#include "api/depthwise.hpp"
#include "api/guard.hpp"
#include "api/pool.hpp"
#include "api/problem.hpp"
#include "depthwise/gradient/input_gradient.hpp"
#include "depthwise/gradient/weight_gradient.hpp"

using namespace replk;
using api::guarded;
using api::not_null;
using core::fail;
using core::Status;

static_assert(offsetof(replk_depthwise_gradient_options, layer) == 16);  // what the first header had

struct replk_depthwise_gradient {
  depthwise::Problem problem;
  std::optional<depthwise::InputGradient> input;
  std::optional<depthwise::WeightGradient> weights;

  std::size_t workspace_bytes() const {
    return std::max(input ? input->workspace_bytes() : 0, weights ? weights->workspace_bytes() : 0);
  }
};

namespace {

constexpr int both = REPLK_GRADIENT_INPUT | REPLK_GRADIENT_WEIGHTS;

std::unique_ptr<replk_depthwise_gradient> create(const depthwise::Problem& problem,
                                                 const float* const* weights,
                                                 const replk_depthwise_gradient_options* given) {
  replk_depthwise_gradient_options o = replk_depthwise_gradient_options_default();
  if (given) o = api::read(given, o, offsetof(replk_depthwise_gradient_options, layer), "options");
  if (o.wanted < 0 || o.wanted > both)
    fail(Status::invalid_argument,
         "wanted is {}; allowed: 1 (of the input), 2 (of the weights), 3, or 0 for both", o.wanted);
  const int wanted = o.wanted == 0 ? both : o.wanted;
  depthwise::PlanOptions options;
  options.threads = o.threads;
  options.layer = o.layer ? &o.layer->plan : nullptr;
  auto plan = std::make_unique<replk_depthwise_gradient>();
  plan->problem = problem;
  if (wanted & REPLK_GRADIENT_INPUT)
    plan->input.emplace(problem, api::Given(problem, weights, nullptr).branches(), options);
  if (wanted & REPLK_GRADIENT_WEIGHTS) plan->weights.emplace(problem, options);
  return plan;
}

/// The half of a plan that a call needs.
template <class Gradient>
auto& made(Gradient& half, const char* which) {
  if (!half)
    fail(Status::invalid_argument,
         "the plan was made without the gradient of the {}; allowed: wanted, with {}", which,
         which[0] == 'i' ? "REPLK_GRADIENT_INPUT" : "REPLK_GRADIENT_WEIGHTS");
  return *half;
}

}  // namespace

replk_status replk_depthwise_gradient_create(const replk_depthwise_problem* problem,
                                             const float* const* weights,
                                             const replk_depthwise_gradient_options* options,
                                             replk_depthwise_gradient** plan) {
  return guarded([&] {
    not_null(plan, "plan") = nullptr;
    *plan = create(api::read_problem(problem), weights, options).release();
  });
}

replk_status replk_depthwise_gradient_create_from_shape(const char* shape, const float* const* weights,
                                                        const replk_depthwise_gradient_options* options,
                                                        replk_depthwise_gradient** plan) {
  return guarded([&] {
    not_null(plan, "plan") = nullptr;
    *plan = create(depthwise::parse(&not_null(shape, "shape")), weights, options).release();
  });
}

void replk_depthwise_gradient_destroy(replk_depthwise_gradient* plan) {
  delete plan;
}

replk_status replk_depthwise_gradient_workspace_bytes(const replk_depthwise_gradient* plan, size_t* bytes) {
  return guarded([&] { not_null(bytes, "bytes") = not_null(plan, "plan").workspace_bytes(); });
}

replk_status replk_depthwise_gradient_set_weights(replk_depthwise_gradient* plan,
                                                  const float* const* weights) {
  return guarded([&] {
    depthwise::InputGradient& input = made(not_null(plan, "plan").input, "input");
    input.set_weights(api::Given(input.problem(), weights, nullptr).branches());
  });
}

replk_status replk_depthwise_gradient_input(const replk_depthwise_gradient* plan, const void* dy, void* dx,
                                            const replk_run_options* options) {
  return guarded([&] {
    const depthwise::InputGradient& input = made(not_null(plan, "plan").input, "input");
    const replk_run_options o = api::read_run_options(options, plan->workspace_bytes());
    const api::Pool pool(o.pool, o.user);
    input.run(dy, dx, {o.batch, o.workspace});
  });
}

replk_status replk_depthwise_gradient_weights(const replk_depthwise_gradient* plan, const void* src,
                                              const void* dy, float* const* dweights, float* dbias,
                                              int32_t accumulate, const replk_run_options* options) {
  return guarded([&] {
    const depthwise::WeightGradient& gradient = made(not_null(plan, "plan").weights, "weights");
    not_null(dweights, "dweights");
    const replk_run_options o = api::read_run_options(options, plan->workspace_bytes());
    const api::Pool pool(o.pool, o.user);
    gradient.run({src, dy, {dweights, plan->problem.branches.size()}, dbias}, accumulate != 0,
                 {o.batch, o.workspace});
  });
}
