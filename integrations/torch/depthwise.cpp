// replk::depthwise for PyTorch, over its stable ABI (2.9 and later) and the C API alone: no Python, and of
// torch only what the ABI promises for years.
#include <torch/csrc/inductor/aoti_torch/c/shim.h>
#include <torch/csrc/stable/library.h>
#include <torch/csrc/stable/ops.h>
#include <torch/csrc/stable/tensor.h>

#include <bit>
#include <optional>
#include <span>

#include "plans.hpp"

// Of libgomp, which a process has once (docs/python.md).
extern "C" int omp_get_max_threads(void);

namespace replk_torch {
namespace {

using torch::headeronly::ScalarType;
using torch::stable::Tensor;

void check(replk_status status) {
  STD_TORCH_CHECK(status == REPLK_OK, "replk: ", replk_last_error());
}

std::int64_t storage(ScalarType type) {
  switch (type) {
    case ScalarType::Float:
      return REPLK_F32;
    case ScalarType::BFloat16:
      return REPLK_BF16;
    case ScalarType::Half:
      return REPLK_F16;
    default:
      STD_TORCH_CHECK(false, "replk: dtype of the input must be float32, bfloat16 or float16");
  }
}

/// PyTorch's own rule (suggest_memory_format), ambiguous cases included: conv2d's result has its input's
/// format.
bool channels_last(const Tensor& t) {
  std::int64_t least = 0;
  if (t.stride(1) == 0) return false;
  for (const int d : {1, 3, 2, 0}) {
    if (t.size(d) == 0 || t.stride(d) < least) return false;
    if (d == 0 && least == t.stride(1)) return false;
    least = t.stride(d);
    if (t.size(d) > 1) least *= t.size(d);
  }
  return true;
}

/// fp32 values of a weight or bias that a half-precision module holds.
std::vector<float> widened(const Tensor& t) {
  std::vector<float> values(static_cast<std::size_t>(t.numel()));
  const auto* from = static_cast<const std::uint16_t*>(t.data_ptr());
  for (std::size_t i = 0; i < values.size(); i++) {
    const std::uint32_t bits = from[i];
    if (t.scalar_type() == ScalarType::BFloat16) {
      values[i] = std::bit_cast<float>(bits << 16);
      continue;
    }
    // Half: exponent and mantissa moved into place, then scaled by 2^112, which normalises denormals as well.
    const float scaled = std::bit_cast<float>((bits & 0x7fffu) << 13) * 0x1p112f;
    const std::uint32_t special = (bits & 0x7c00u) == 0x7c00u ? 0x7f800000u | (bits & 0x3ffu) << 13 : 0;
    values[i] = std::bit_cast<float>((special ? special : std::bit_cast<std::uint32_t>(scaled)) |
                                     (bits & 0x8000u) << 16);
  }
  return values;
}

/// A parameter as fp32 in C order.
class Parameter {
 public:
  explicit Parameter(const Tensor& t) {
    const ScalarType type = t.scalar_type();
    if (type == ScalarType::Float) {
      data_ = static_cast<const float*>(t.data_ptr());
      return;
    }
    STD_TORCH_CHECK(type == ScalarType::BFloat16 || type == ScalarType::Half,
                    "replk: dtype of weight and bias must be float32, bfloat16 or float16");
    copy_ = widened(t);
    data_ = copy_.data();
  }
  const float* data() const { return data_; }

 private:
  std::vector<float> copy_;
  const float* data_;
};

std::size_t bytes_of(const Tensor& t) {
  return static_cast<std::size_t>(t.numel()) * (t.scalar_type() == ScalarType::Float ? 4 : 2);
}

Tensor contiguous(const Tensor& t) {
  if (t.is_contiguous()) return t;
  Tensor copy = torch::stable::new_empty(t, t.sizes());
  return torch::stable::copy_(copy, t);
}

/// Strides in elements as the library takes them, where it can: whole pixels or whole rows.
std::optional<replk_strides> strides_of(const Tensor& t, bool last) {
  const replk_strides s{t.stride(0), t.stride(2), t.stride(3), t.stride(1)};
  const std::int64_t channels = t.size(1), height = t.size(2), width = t.size(3);
  if (last && s.channel == 1 && s.pixel >= channels && s.row >= s.pixel * width && s.image >= s.row * height)
    return s;
  if (!last && s.pixel == 1 && s.row >= width && s.channel >= s.row * height &&
      s.image >= s.channel * channels)
    return s;
  return std::nullopt;
}

Tensor empty_result(const Tensor& x, std::int64_t height, std::int64_t width, bool last) {
  const std::int64_t n = x.size(0), c = x.size(1), sizes[] = {n, c, height, width};
  const std::int64_t nhwc[] = {height * width * c, 1, width * c, c},
                     nchw[] = {c * height * width, height * width, width, 1};
  std::int32_t type = 0;
  STABLE_TORCH_ERROR_CODE_CHECK(aoti_torch_get_dtype(x.get(), &type));
  AtenTensorHandle handle = nullptr;
  STABLE_TORCH_ERROR_CODE_CHECK(
      aoti_torch_empty_strided(4, sizes, last ? nhwc : nchw, type, aoti_torch_device_type_cpu(), 0, &handle));
  return Tensor(handle);
}

Plans& plans() {
  static auto* const all = new Plans;  // lives until the process ends: calls may come from any destructor
  return *all;
}

struct Layer {
  std::int64_t stride_h, stride_w, top, bottom, left, right, dilation_h, dilation_w, activation, version;
};

void check_shapes(const Tensor& x, const Tensor& weight, const std::optional<Tensor>& bias) {
  STD_TORCH_CHECK(x.dim() == 4, "replk: expected a 4-dimensional input, got ", x.dim(), " dimensions");
  STD_TORCH_CHECK(weight.dim() == 4 && weight.size(1) == 1,
                  "replk: weight must be [channels, 1, kernel_h, kernel_w]");
  STD_TORCH_CHECK(x.size(1) == weight.size(0), "replk: the input has ", x.size(1),
                  " channels, weight is for ", weight.size(0));
  if (bias)
    STD_TORCH_CHECK(bias->dim() == 1 && bias->size(0) == x.size(1), "replk: bias must be [", x.size(1), "]");
}

replk_depthwise_problem problem_of(const Tensor& x, const Layer& layer, const replk_branch& branch,
                                   bool last) {
  replk_depthwise_problem p = replk_depthwise_problem_default();
  p.channels = static_cast<std::int32_t>(x.size(1));
  p.height = static_cast<std::int32_t>(x.size(2));
  p.width = static_cast<std::int32_t>(x.size(3));
  p.branches = &branch;
  p.branch_count = 1;
  p.stride_h = static_cast<std::int32_t>(layer.stride_h);
  p.stride_w = static_cast<std::int32_t>(layer.stride_w);
  p.explicit_padding = 1;
  p.pad_top = static_cast<std::int32_t>(layer.top);
  p.pad_bottom = static_cast<std::int32_t>(layer.bottom);
  p.pad_left = static_cast<std::int32_t>(layer.left);
  p.pad_right = static_cast<std::int32_t>(layer.right);
  p.layout = last ? REPLK_NHWC : REPLK_NCHW;
  p.type = static_cast<replk_type>(storage(x.scalar_type()));
  p.activation = static_cast<replk_activation>(layer.activation);
  return p;
}

std::int64_t output_side(std::int64_t input, std::int64_t before, std::int64_t after, std::int64_t kernel,
                         std::int64_t dilation, std::int64_t stride) {
  const std::int64_t room = input + before + after - (dilation * (kernel - 1) + 1);
  STD_TORCH_CHECK(room >= 0, "replk: the kernel is larger than the padded input");
  return room / stride + 1;
}

Tensor depthwise(Tensor x, Tensor weight, std::optional<Tensor> bias, std::int64_t stride_h,
                 std::int64_t stride_w, std::int64_t top, std::int64_t bottom, std::int64_t left,
                 std::int64_t right, std::int64_t dilation_h, std::int64_t dilation_w,
                 std::int64_t activation, std::int64_t version) {
  const int threads = omp_get_max_threads();  // what torch.get_num_threads() says on this thread
  const Layer layer{stride_h, stride_w,   top,        bottom,     left,
                    right,    dilation_h, dilation_w, activation, version};
  check_shapes(x, weight, bias);
  STD_TORCH_CHECK(stride_h > 0 && stride_w > 0 && dilation_h > 0 && dilation_w > 0,
                  "replk: stride and dilation must be positive");
  const std::int64_t height = output_side(x.size(2), top, bottom, weight.size(2), dilation_h, stride_h);
  const std::int64_t width = output_side(x.size(3), left, right, weight.size(3), dilation_w, stride_w);
  const bool last = channels_last(x);
  Tensor y = empty_result(x, height, width, last);
  if (x.size(0) == 0 || x.size(1) == 0) return y;

  std::optional<replk_strides> strides = strides_of(x, last);
  if (!strides) {
    Tensor copy = empty_result(x, x.size(2), x.size(3), last);
    x = torch::stable::copy_(copy, x);
    strides = strides_of(x, last);
  }
  weight = contiguous(weight);
  if (bias) bias = contiguous(*bias);
  const replk_branch branch{static_cast<std::int32_t>(weight.size(2)),
                            static_cast<std::int32_t>(weight.size(3)), static_cast<std::int32_t>(dilation_h),
                            static_cast<std::int32_t>(dilation_w)};
  replk_depthwise_problem p = problem_of(x, layer, branch, last);
  p.bias = bias.has_value();
  p.input_strides = *strides;

  Key key;
  key.height = p.height;
  key.width = p.width;
  key.layer = {x.size(1), weight.size(2), weight.size(3), stride_h,   stride_w,   top,   bottom,
               left,      right,          dilation_h,     dilation_w, activation, p.bias};
  key.strides = {strides->image, strides->row, strides->pixel, strides->channel};
  key.layout = p.layout;
  key.type = p.type;
  key.threads = threads;
  const Weights weights(weight.data_ptr(), bytes_of(weight), bias ? bias->data_ptr() : nullptr,
                        bias ? bytes_of(*bias) : 0, version);
  const auto with_values = [&](auto use) {
    const Parameter values(weight);
    const std::optional<Parameter> bias_values = bias ? std::optional<Parameter>(*bias) : std::nullopt;
    const float* pointers[] = {values.data()};
    use(pointers, bias_values ? bias_values->data() : nullptr);
  };
  const Plan plan = plans().get(
      key, weights,
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
  check(replk_depthwise_run_with(plan.get(), x.data_ptr(), y.data_ptr(), nullptr, &options));
  return y;
}

/// Forgets all plans: for tests, and for who wants the memory.
void clear() {
  plans().clear();
}

}  // namespace
}  // namespace replk_torch

STABLE_TORCH_LIBRARY(replk, m) {
  m.def(
      "depthwise(Tensor x, Tensor weight, Tensor? bias, int stride_h, int stride_w, int top, int bottom, int "
      "left, "
      "int right, int dilation_h, int dilation_w, int activation, int version) -> Tensor");
}

namespace {
void boxed_depthwise(StableIValue* stack, std::uint64_t, std::uint64_t) {
  using torch::stable::detail::from;
  using torch::stable::detail::to;
  std::int64_t n[10];
  for (int i = 0; i < 10; i++) n[i] = to<std::int64_t>(stack[3 + i]);
  stack[0] =
      from(replk_torch::depthwise(to<torch::stable::Tensor>(stack[0]), to<torch::stable::Tensor>(stack[1]),
                                  to<std::optional<torch::stable::Tensor>>(stack[2]), n[0], n[1], n[2], n[3],
                                  n[4], n[5], n[6], n[7], n[8], n[9]));
}
}  // namespace

STABLE_TORCH_LIBRARY_IMPL(replk, CPU, m) {
  m.impl("depthwise", &boxed_depthwise);
}

/// Called by Python through ctypes.
extern "C" __attribute__((visibility("default"))) void replk_torch_clear() {
  replk_torch::clear();
}
