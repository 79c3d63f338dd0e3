#include "tensors.hpp"

#include <algorithm>
#include <bit>

namespace replk_torch {
namespace {

replk_type storage(ScalarType type) {
  switch (type) {
    case ScalarType::Float:
      return REPLK_F32;
    case ScalarType::BFloat16:
      return REPLK_BF16;
    case ScalarType::Half:
      return REPLK_F16;
    default:
      break;
  }
  throw std::runtime_error("replk: dtype of the input must be float32, bfloat16 or float16");
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

/// Strides in elements as the library takes them, where it can: whole pixels or whole rows.
std::optional<replk_strides> whole_strides(const Tensor& t, bool last) {
  const std::int64_t *const size = sizes_of(t), *const stride = strides_of(t);
  const replk_strides s{stride[0], stride[2], stride[3], stride[1]};
  const std::int64_t channels = size[1], height = size[2], width = size[3];
  if (last && s.channel == 1 && s.pixel >= channels && s.row >= s.pixel * width && s.image >= s.row * height)
    return s;
  if (!last && s.pixel == 1 && s.row >= width && s.channel >= s.row * height &&
      s.image >= s.channel * channels)
    return s;
  return std::nullopt;
}

std::int64_t output_side(std::int64_t input, std::int64_t before, std::int64_t after, std::int64_t kernel,
                         std::int64_t dilation, std::int64_t stride) {
  const std::int64_t room = input + before + after - (dilation * (kernel - 1) + 1);
  require(room >= 0, "the kernel is larger than the padded input");
  return room / stride + 1;
}

}  // namespace

void check(replk_status status) {
  require(status == REPLK_OK, replk_last_error());
}

const std::int64_t* sizes_of(const Tensor& t) {
  std::int64_t* sizes = nullptr;
  STABLE_TORCH_ERROR_CODE_CHECK(aoti_torch_get_sizes(t.get(), &sizes));
  return sizes;
}

const std::int64_t* strides_of(const Tensor& t) {
  std::int64_t* strides = nullptr;
  STABLE_TORCH_ERROR_CODE_CHECK(aoti_torch_get_strides(t.get(), &strides));
  return strides;
}

bool channels_last(const Tensor& t) {
  const std::int64_t *const size = sizes_of(t), *const stride = strides_of(t);
  std::int64_t least = 0;
  if (stride[1] == 0) return false;
  for (const int d : {1, 3, 2, 0}) {
    if (size[d] == 0 || stride[d] < least) return false;
    if (d == 0 && least == stride[1]) return false;
    least = stride[d];
    if (size[d] > 1) least *= size[d];
  }
  return true;
}

Parameter::Parameter(const Tensor& t) {
  const ScalarType type = t.scalar_type();
  if (type == ScalarType::Float) {
    data_ = static_cast<const float*>(t.data_ptr());
    return;
  }
  require(type == ScalarType::BFloat16 || type == ScalarType::Half,
          "dtype of weight and bias must be float32, bfloat16 or float16");
  copy_ = widened(t);
  data_ = copy_.data();
}

std::size_t bytes_of(const Tensor& t) {
  return static_cast<std::size_t>(t.numel()) * (t.scalar_type() == ScalarType::Float ? 4 : 2);
}

Tensor contiguous(const Tensor& t) {
  if (t.is_contiguous()) return t;
  Tensor copy = torch::stable::new_empty(t, t.sizes());
  return torch::stable::copy_(copy, t);
}

Tensor empty(std::span<const std::int64_t> sizes, std::span<const std::int64_t> strides, std::int32_t type) {
  AtenTensorHandle handle = nullptr;
  STABLE_TORCH_ERROR_CODE_CHECK(aoti_torch_empty_strided(static_cast<std::int64_t>(sizes.size()),
                                                         sizes.data(), strides.data(), type,
                                                         aoti_torch_device_type_cpu(), 0, &handle));
  return Tensor(handle);
}

Tensor empty_result(const Tensor& x, std::int64_t height, std::int64_t width, bool last) {
  const std::int64_t n = sizes_of(x)[0], c = sizes_of(x)[1], sizes[] = {n, c, height, width};
  const std::int64_t nhwc[] = {height * width * c, 1, width * c, c},
                     nchw[] = {c * height * width, height * width, width, 1};
  std::int32_t type = 0;
  STABLE_TORCH_ERROR_CODE_CHECK(aoti_torch_get_dtype(x.get(), &type));
  return empty(sizes, last ? nhwc : nchw, type);
}

Activations::Activations(const Tensor& t, bool last) : tensor(t) {
  std::optional<replk_strides> found = whole_strides(t, last);
  if (!found) {
    Tensor copy = empty_result(t, t.size(2), t.size(3), last);
    tensor = torch::stable::copy_(copy, t);
    found = whole_strides(tensor, last);
  }
  strides = *found;
}

Layer unpack(std::int64_t layer) {
  require(layer >= 0, "layer is ", layer, "; allowed: what python/replk/torch/_layer.py packs");
  const auto next = [&](int bits, std::int64_t least) {
    const std::int64_t value = (layer & ((1 << bits) - 1)) + least;
    layer >>= bits;
    return value;
  };
  Layer l{};
  for (std::int64_t* stride : {&l.stride_h, &l.stride_w}) *stride = next(4, 1);
  for (std::int64_t* dilation : {&l.dilation_h, &l.dilation_w}) *dilation = next(6, 1);
  for (std::int64_t* pad : {&l.top, &l.bottom, &l.left, &l.right}) *pad = next(10, 0);
  l.activation = static_cast<replk_activation>(layer);
  return l;
}

void check_shapes(const Tensor& x, const Tensor& weight) {
  require(x.dim() == 4, "expected a 4-dimensional input, got ", x.dim(), " dimensions");
  require(weight.dim() == 4 && weight.size(1) == 1, "weight must be [channels, 1, kernel_h, kernel_w]");
  require(x.size(1) == weight.size(0), "the input has ", x.size(1), " channels, weight is for ",
          weight.size(0));
}

Sides output_sides(std::int64_t height, std::int64_t width, std::int64_t kernel_h, std::int64_t kernel_w,
                   const Layer& l) {
  return {output_side(height, l.top, l.bottom, kernel_h, l.dilation_h, l.stride_h),
          output_side(width, l.left, l.right, kernel_w, l.dilation_w, l.stride_w)};
}

replk_branch branch_of(std::int64_t kernel_h, std::int64_t kernel_w, const Layer& layer) {
  return {static_cast<std::int32_t>(kernel_h), static_cast<std::int32_t>(kernel_w),
          static_cast<std::int32_t>(layer.dilation_h), static_cast<std::int32_t>(layer.dilation_w)};
}

replk_depthwise_problem problem_of(std::int64_t channels, std::int64_t height, std::int64_t width,
                                   const Layer& layer, const replk_branch& branch, bool last,
                                   ScalarType type) {
  replk_depthwise_problem p = replk_depthwise_problem_default();
  p.channels = static_cast<std::int32_t>(channels);
  p.height = static_cast<std::int32_t>(height);
  p.width = static_cast<std::int32_t>(width);
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
  p.type = storage(type);
  return p;
}

Key key_of(const replk_depthwise_problem& p, int threads) {
  const replk_branch& b = p.branches[0];
  const auto strides = [](const replk_strides& s) {
    return std::array<std::int64_t, 4>{s.image, s.row, s.pixel, s.channel};
  };
  Key key;
  key.layer = {p.batch,      p.channels,   p.height,   p.width,    b.kernel_h, b.kernel_w,
               b.dilation_h, b.dilation_w, p.stride_h, p.stride_w, p.pad_top,  p.pad_bottom,
               p.pad_left,   p.pad_right,  p.layout,   p.type,     threads};
  key.results = {p.output_layout, p.activation, p.bias};
  key.input_strides = strides(p.input_strides);
  key.output_strides = strides(p.output_strides);
  return key;
}

}  // namespace replk_torch
