// replk::depthwise for PyTorch, over its stable ABI (2.9 and later) and the C API alone: no Python, and of
// torch only what the ABI promises for years.
#include <optional>

#include "plans.hpp"
#include "tensors.hpp"

// Of libgomp, which a process has once (docs/python.md).
extern "C" int omp_get_max_threads(void);

namespace replk_torch {
namespace {

Plans<replk_depthwise>& plans() {
  // Lives until the process ends: calls may come from any destructor.
  static auto* const all = new Plans<replk_depthwise>(replk_depthwise_destroy);
  return *all;
}

Tensor depthwise(const Tensor& x, Tensor weight, std::optional<Tensor> bias, const Layer& layer,
                 std::int64_t activation, std::int64_t version) {
  const int threads = omp_get_max_threads();  // what torch.get_num_threads() says on this thread
  check_shapes(x, weight);
  if (bias) require(bias->dim() == 1 && bias->size(0) == x.size(1), "bias must be [", x.size(1), "]");
  const Sides sides = output_sides(x.size(2), x.size(3), weight.size(2), weight.size(3), layer);
  const bool last = channels_last(x);
  Tensor y = empty_result(x, sides.height, sides.width, last);
  if (x.size(0) == 0 || x.size(1) == 0) return y;

  const Activations input(x, last);
  weight = contiguous(weight);
  if (bias) bias = contiguous(*bias);
  const replk_branch branch = branch_of(weight.size(2), weight.size(3), layer);
  replk_depthwise_problem p =
      problem_of(x.size(1), x.size(2), x.size(3), layer, branch, last, x.scalar_type());
  p.activation = static_cast<replk_activation>(activation);
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
  const auto plan = plans().get(
      key_of(p, threads), weights,
      [&] {
        replk_depthwise* made = nullptr;
        with_values([&](const float* const* w, const float* b) {
          replk_depthwise_options options = replk_depthwise_options_default();
          options.threads = threads;
          check(replk_depthwise_create(&p, w, b, &options, &made));
        });
        return made;
      },
      [&](replk_depthwise* stale) {
        with_values(
            [&](const float* const* w, const float* b) { check(replk_depthwise_set_weights(stale, w, b)); });
      });
  replk_run_options options = replk_run_options_default();
  options.batch = x.size(0);
  check(replk_depthwise_run_with(plan.get(), input.tensor.data_ptr(), y.data_ptr(), nullptr, &options));
  return y;
}

void boxed_depthwise(StableIValue* stack, std::uint64_t, std::uint64_t) {
  using torch::stable::detail::from;
  using torch::stable::detail::to;
  std::int64_t n[10];
  for (int i = 0; i < 10; i++) n[i] = to<std::int64_t>(stack[3 + i]);
  stack[0] = from(depthwise(to<Tensor>(stack[0]), to<Tensor>(stack[1]), to<std::optional<Tensor>>(stack[2]),
                            {n[0], n[1], n[2], n[3], n[4], n[5], n[6], n[7]}, n[8], n[9]));
}

}  // namespace
void clear_gradients();
}  // namespace replk_torch

STABLE_TORCH_LIBRARY(replk, m) {
  m.def(
      "depthwise(Tensor x, Tensor weight, Tensor? bias, int stride_h, int stride_w, int top, int bottom, int "
      "left, int right, int dilation_h, int dilation_w, int activation, int version) -> Tensor");
}
STABLE_TORCH_LIBRARY_IMPL(replk, CPU, m) {
  m.impl("depthwise", &replk_torch::boxed_depthwise);
}

/// Forgets all plans: for tests, and for who wants the memory. Called by Python through ctypes.
extern "C" __attribute__((visibility("default"))) void replk_torch_clear() {
  replk_torch::plans().clear();
  replk_torch::clear_gradients();
}
