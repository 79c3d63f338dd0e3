// replk::depthwise for PyTorch, over its stable ABI (2.9 and later) and the C API alone: no Python, and of
// torch only what the ABI promises for years.
#include <optional>

#include "layer_plan.hpp"
#include "tensors.hpp"

// Of libgomp, which a process has once (docs/python.md).
extern "C" int omp_get_max_threads(void);

namespace replk_torch {
namespace {

Tensor depthwise(const Tensor& x, Tensor weight, std::optional<Tensor> bias, const Layer& layer,
                 std::int64_t version) {
  const int threads = omp_get_max_threads();  // what torch.get_num_threads() says on this thread
  check_shapes(x, weight);
  if (bias) require(bias->dim() == 1 && bias->size(0) == x.size(1), "bias must be [", x.size(1), "]");
  const std::int64_t *const size = sizes_of(x), kernel_h = sizes_of(weight)[2],
                            kernel_w = sizes_of(weight)[3];
  const Sides sides = output_sides(size[2], size[3], kernel_h, kernel_w, layer);
  const bool last = channels_last(x);
  Tensor y = empty_result(x, sides.height, sides.width, last);
  if (size[0] == 0 || size[1] == 0) return y;

  const Activations input(x, last);
  weight = contiguous(weight);
  if (bias) bias = contiguous(*bias);
  const replk_branch branch = branch_of(kernel_h, kernel_w, layer);
  replk_depthwise_problem p = problem_of(size[1], size[2], size[3], layer, branch, last, x.scalar_type());
  p.activation = layer.activation;
  p.bias = bias.has_value();
  p.input_strides = input.strides;

  const Weights weights{weight.data_ptr(), bytes_of(weight), bias ? bias->data_ptr() : nullptr,
                        bias ? bytes_of(*bias) : 0, version};
  const auto with_values = [&](auto use) {
    const Parameter values(weight);
    const std::optional<Parameter> bias_values = bias ? std::optional<Parameter>(*bias) : std::nullopt;
    const float* pointers[] = {values.data()};
    use(pointers, bias_values ? bias_values->data() : nullptr);
  };
  const auto plan = layer_plans().get(
      key_of(p, threads), weights,
      [&] {
        replk_depthwise* made = nullptr;
        with_values([&](const float* const* w, const float* b) {
          replk_depthwise_options options = replk_depthwise_options_default();
          options.threads = threads;
          check(replk_depthwise_create(&p, w, b, &options, &made));
        });
        return std::make_shared<LayerPlan>(made);
      },
      [&](LayerPlan* stale) {
        with_values([&](const float* const* w, const float* b) { stale->set_weights(w, b); });
      });
  replk_run_options options = replk_run_options_default();
  options.batch = size[0];
  check(replk_depthwise_run_with(plan->forward(), input.tensor.data_ptr(), y.data_ptr(), nullptr, &options));
  return y;
}

void boxed_depthwise(StableIValue* stack, std::uint64_t, std::uint64_t) {
  using torch::stable::detail::from;
  using torch::stable::detail::to;
  stack[0] = from(depthwise(to<Tensor>(stack[0]), to<Tensor>(stack[1]), to<std::optional<Tensor>>(stack[2]),
                            unpack(to<std::int64_t>(stack[3])), to<std::int64_t>(stack[4])));
}

}  // namespace
void clear_gradients();
}  // namespace replk_torch

STABLE_TORCH_LIBRARY(replk, m) {
  m.def("depthwise(Tensor x, Tensor weight, Tensor? bias, int layer, int version) -> Tensor");
}
STABLE_TORCH_LIBRARY_IMPL(replk, CPU, m) {
  m.impl("depthwise", &replk_torch::boxed_depthwise);
}

/// Forgets all plans: for tests, and to free the memory. Called by Python through ctypes.
extern "C" __attribute__((visibility("default"))) void replk_torch_clear() {
  replk_torch::layer_plans().clear();
  replk_torch::clear_gradients();
}
