// replk::depthwise_input_gradient and replk::depthwise_weight_gradient for PyTorch: what autograd calls.
#include <utility>

#include "layer_plan.hpp"
#include "plans.hpp"
#include "tensors.hpp"

// Of libgomp, which a process has once (docs/python.md).
extern "C" int omp_get_max_threads(void);

namespace replk_torch {
namespace {

using Gradient = replk_depthwise_gradient;

Plans<Gradient>& plans() {
  static auto* const all = new Plans<Gradient>;
  return *all;
}

Gradient* make(const replk_depthwise_problem& p, const float* const* weights, int threads, int wanted,
               const replk_depthwise* layer = nullptr) {
  replk_depthwise_gradient_options options = replk_depthwise_gradient_options_default();
  options.threads = threads;
  options.wanted = wanted;
  options.layer = layer;
  Gradient* made = nullptr;
  check(replk_depthwise_gradient_create(&p, weights, &options, &made));
  return made;
}

std::shared_ptr<Gradient> owned(Gradient* plan) {
  return {plan, replk_depthwise_gradient_destroy};
}

/// dy of a layer whose input has this format and these sides.
replk_depthwise_problem problem_of(const Activations& dy, bool dy_last, bool last, const Sides& sides,
                                   const Layer& layer, const replk_branch& branch) {
  replk_depthwise_problem p =
      problem_of(dy.tensor.size(1), sides.height, sides.width, layer, branch, last, dy.tensor.scalar_type());
  p.output_layout = dy_last ? REPLK_NHWC : REPLK_NCHW;
  p.output_strides = dy.strides;
  p.bias = 0;
  return p;
}

void check_output(const Tensor& dy, const Sides& sides, std::int64_t kernel_h, std::int64_t kernel_w,
                  const Layer& layer) {
  const Sides output = output_sides(sides.height, sides.width, kernel_h, kernel_w, layer);
  require(dy.dim() == 4 && dy.size(2) == output.height && dy.size(3) == output.width,
          "the gradient of the output must be [n, c, ", output.height, ", ", output.width, "]");
}

/// A plan, and the layer that it shares with: while both are held, the layer is given no other weights.
struct Held {
  Plans<LayerPlan>::Plan layer;
  std::shared_ptr<const Gradient> gradient;
};

/// Of the layer that ran with these weights; a plan of its own where there is none (any more).
Held input_plan(const replk_depthwise_problem& p, const Tensor& weight, std::int64_t version, int threads) {
  const auto with_values = [&](auto use) {
    const Parameter values(weight);
    const float* pointers[] = {values.data()};
    return use(pointers);
  };
  const auto made = [&](const replk_depthwise* layer) {
    return with_values(
        [&](const float* const* w) { return make(p, w, threads, REPLK_GRADIENT_INPUT, layer); });
  };
  const Key key = key_of(p, threads);
  const Weights weights{weight.data_ptr(), bytes_of(weight), nullptr, 0, version};
  const auto layer = layer_plans().find([&](const Key& other, const Snapshot& snapshot) {
    return key.is_gradient_of(other) && snapshot.same_weight(weights);
  });
  if (layer) return {layer, layer->gradient(key, made)};
  return {nullptr, plans().get(
                       key, weights, [&] { return owned(made(nullptr)); },
                       [&](Gradient* stale) {
                         with_values([&](const float* const* w) {
                           check(replk_depthwise_gradient_set_weights(stale, w));
                         });
                       })};
}

Tensor input_gradient(const Tensor& dy, Tensor weight, const Sides& sides, bool last, const Layer& layer,
                      std::int64_t version) {
  const int threads = omp_get_max_threads();
  check_shapes(dy, weight);
  check_output(dy, sides, weight.size(2), weight.size(3), layer);
  Tensor dx = empty_result(dy, sides.height, sides.width, last);
  if (dy.size(0) == 0 || dy.size(1) == 0) return dx;
  const bool dy_last = channels_last(dy);
  const Activations output(dy, dy_last);
  weight = contiguous(weight);
  const replk_branch branch = branch_of(weight.size(2), weight.size(3), layer);
  const Held plan =
      input_plan(problem_of(output, dy_last, last, sides, layer, branch), weight, version, threads);
  replk_run_options options = replk_run_options_default();
  options.batch = dy.size(0);
  check(
      replk_depthwise_gradient_input(plan.gradient.get(), output.tensor.data_ptr(), dx.data_ptr(), &options));
  return dx;
}

/// Both fp32. The bias' is empty where it is not wanted.
std::pair<Tensor, Tensor> weight_gradient(const Tensor& x, const Tensor& dy, std::int64_t kernel_h,
                                          std::int64_t kernel_w, const Layer& layer, bool bias) {
  const int threads = omp_get_max_threads();
  require(x.dim() == 4 && dy.dim() == 4 && x.size(0) == dy.size(0) && x.size(1) == dy.size(1) &&
              x.scalar_type() == dy.scalar_type(),
          "the input and the gradient of the output must agree in batch, channels and dtype");
  const Sides sides{x.size(2), x.size(3)};
  check_output(dy, sides, kernel_h, kernel_w, layer);
  const std::int64_t channels = x.size(1), sizes[] = {channels, 1, kernel_h, kernel_w},
                     strides[] = {kernel_h * kernel_w, kernel_h * kernel_w, kernel_w, 1},
                     bias_sizes[] = {bias ? channels : 0}, bias_strides[] = {1};
  Tensor dw = empty(sizes, strides, aoti_torch_dtype_float32()),
         db = empty(bias_sizes, bias_strides, aoti_torch_dtype_float32());
  if (x.size(0) == 0 || channels == 0) {
    torch::stable::zero_(dw);
    torch::stable::zero_(db);
    return {dw, db};
  }
  const bool last = channels_last(x), dy_last = channels_last(dy);
  const Activations input(x, last), output(dy, dy_last);
  const replk_branch branch = branch_of(kernel_h, kernel_w, layer);
  replk_depthwise_problem p = problem_of(output, dy_last, last, sides, layer, branch);
  p.batch = x.size(0);  // which algorithm is best depends on it
  p.input_strides = input.strides;
  const auto plan = plans().get(
      key_of(p, threads), Weights{}, [&] { return owned(make(p, nullptr, threads, REPLK_GRADIENT_WEIGHTS)); },
      [](Gradient*) {});
  replk_run_options options = replk_run_options_default();
  options.batch = x.size(0);
  float* const dweights[] = {static_cast<float*>(dw.data_ptr())};
  check(replk_depthwise_gradient_weights(plan.get(), input.tensor.data_ptr(), output.tensor.data_ptr(),
                                         dweights, bias ? static_cast<float*>(db.data_ptr()) : nullptr, 0,
                                         &options));
  return {dw, db};
}

using torch::stable::detail::from;
using torch::stable::detail::to;

void boxed_input_gradient(StableIValue* stack, std::uint64_t, std::uint64_t) {
  stack[0] = from(input_gradient(to<Tensor>(stack[0]), to<Tensor>(stack[1]),
                                 {to<std::int64_t>(stack[2]), to<std::int64_t>(stack[3])}, to<bool>(stack[4]),
                                 unpack(to<std::int64_t>(stack[5])), to<std::int64_t>(stack[6])));
}

void boxed_weight_gradient(StableIValue* stack, std::uint64_t, std::uint64_t) {
  const auto [dw, db] =
      weight_gradient(to<Tensor>(stack[0]), to<Tensor>(stack[1]), to<std::int64_t>(stack[2]),
                      to<std::int64_t>(stack[3]), unpack(to<std::int64_t>(stack[5])), to<bool>(stack[4]));
  stack[0] = from(dw);
  stack[1] = from(db);
}

}  // namespace

void clear_gradients() {
  plans().clear();
}

}  // namespace replk_torch

STABLE_TORCH_LIBRARY_FRAGMENT(replk, m) {
  m.def(
      "depthwise_input_gradient(Tensor dy, Tensor weight, int height, int width, bool channels_last, int "
      "layer, int version) -> Tensor");
  m.def(
      "depthwise_weight_gradient(Tensor x, Tensor dy, int kernel_h, int kernel_w, bool bias, int layer) -> "
      "(Tensor, Tensor)");
}
STABLE_TORCH_LIBRARY_IMPL(replk, CPU, m) {
  m.impl("depthwise_input_gradient", &replk_torch::boxed_input_gradient);
  m.impl("depthwise_weight_gradient", &replk_torch::boxed_weight_gradient);
}
