#include "model/stored_layer.hpp"

#include <algorithm>
#include <cmath>

#include "core/error.hpp"
#include "core/half.hpp"

namespace replk::model {
namespace {

using core::Buffer;
using core::fail;
using core::Status;

/// The layer's name in a checkpoint: what stands before `.weight`.
std::string prefix_of(const ConvTensors& tensors) {
  const std::string& weight = tensors.weight;
  return weight.substr(0, weight.size() - std::string_view(".weight").size());
}

int outputs_of(const Linear& linear) {
  return static_cast<int>(linear.tensors.shape[0]);
}
int inputs_of(const Linear& linear) {
  return static_cast<int>(linear.tensors.shape[1]);
}

std::string branch_name(const Layer& layer, std::size_t branch) {
  return fmt::format("{}.branch{}", layer.name, branch);
}

template <class Half>
std::vector<Half> narrowed(const float* values, std::size_t count) {
  std::vector<Half> halves(count);
  for (std::size_t i = 0; i < count; ++i) halves[i] = core::from_float<Half>(values[i]);
  return halves;
}

/// F16 below 1 and a power of two for each of the first side's parts: 11 bits whatever the size of the
/// values.
void store_halves(const std::string& name, const Shape& shape, const Buffer<float>& values,
                  StoredTensors& tensors) {
  const std::size_t channels = static_cast<std::size_t>(shape[0]), count = values.size() / channels;
  std::vector<float> scales(channels), scaled(values.size());
  for (std::size_t c = 0; c < channels; ++c) {
    float largest = 0;
    for (std::size_t i = 0; i < count; ++i) largest = std::max(largest, std::abs(values[c * count + i]));
    int exponent = 0;
    std::frexp(largest, &exponent);
    scales[c] = std::ldexp(1.0f, std::clamp(exponent, -100, 100));
    for (std::size_t i = 0; i < count; ++i) scaled[c * count + i] = values[c * count + i] / scales[c];
  }
  tensors.add(name + ".weight", "F16", shape, narrowed<core::F16>(scaled.data(), scaled.size()).data());
  tensors.add_floats(name + ".scale", {shape[0]}, scales.data());
}

void require_type(const std::string& name, std::string_view wanted, const TensorReader& reader) {
  const std::string found = reader.source().dtype(name);
  if (found != wanted)
    fail(Status::bad_file, "{}: '{}': type {} found, {} wanted", reader.source().describe(), name, found,
         wanted);
}

/// A tensor of one type, whose values are all finite.
Buffer<float> read_finite(const std::string& name, const Shape& shape, std::string_view dtype,
                          TensorReader& reader) {
  Buffer<float> values = reader.read(name, shape);
  require_type(name, dtype, reader);
  for (std::size_t i = 0; i < values.size(); ++i)
    if (!std::isfinite(values[i]))
      fail(Status::bad_file, "{}: '{}'[{}] is {}; a finite number is wanted", reader.source().describe(),
           name, i, values[i]);
  return values;
}

std::vector<float> read_vector(const std::string& name, int count, TensorReader& reader) {
  const Buffer<float> values = read_finite(name, {count}, "F32", reader);
  return {values.begin(), values.end()};
}

Buffer<float> read_halves(const std::string& name, const Shape& shape, TensorReader& reader) {
  Buffer<float> values = read_finite(name + ".weight", shape, "F16", reader);
  const Buffer<float> scales = read_finite(name + ".scale", {shape[0]}, "F32", reader);
  const std::size_t count = values.size() / scales.size();
  for (std::size_t c = 0; c < scales.size(); ++c) {
    if (!(scales[c] > 0 && scales[c] <= 0x1p100f))
      fail(Status::bad_file, "{}: '{}.scale'[{}] is {}; allowed: above 0, at most 2^100",
           reader.source().describe(), name, c, scales[c]);
    for (std::size_t i = c * count; i < (c + 1) * count; ++i) values[i] *= scales[c];
  }
  return values;
}

}  // namespace

bool holds_int8(const WeightSource& source) {
  return source.metadata("precision") == "int8";
}

void store_int8(const Linear& linear, const Int8Linear& weights, StoredTensors& tensors) {
  const std::string name = prefix_of(linear.tensors);
  tensors.add(name + ".weight", "I8", {outputs_of(linear), inputs_of(linear)}, weights.weights.data());
  tensors.add_floats(name + ".multiplier", {outputs_of(linear)}, weights.multiplier.data());
  tensors.add_floats(name + ".bias", {outputs_of(linear)}, weights.bias.data());
  tensors.add_floats(name + ".input_scale", {inputs_of(linear)}, weights.quantiser.scale.data());
  tensors.add_floats(name + ".input_offset", {inputs_of(linear)}, weights.quantiser.offset.data());
}

void store_linear(const Linear& linear, const FoldedDense& folded, Precision precision,
                  StoredTensors& tensors) {
  const std::string name = prefix_of(linear.tensors);
  const Shape shape{outputs_of(linear), inputs_of(linear)};
  if (precision == Precision::bf16)
    tensors.add(name + ".weight", "BF16", shape,
                narrowed<core::Bf16>(folded.weights.data(), folded.weights.size()).data());
  else
    tensors.add_floats(name + ".weight", shape, folded.weights.data());
  tensors.add_floats(name + ".bias", {outputs_of(linear)}, folded.bias.data());
}

void store_convolution(const Convolution& convolution, const FoldedDense& folded, StoredTensors& tensors) {
  const std::string name = prefix_of(convolution.tensors);
  store_halves(name, convolution.tensors.shape, folded.weights, tensors);
  tensors.add_floats(name + ".bias", {static_cast<int>(convolution.tensors.shape[0])}, folded.bias.data());
}

void store_depthwise(const Layer& layer, const FoldedDepthwise& folded, StoredTensors& tensors) {
  for (std::size_t i = 0; i < folded.branches.size(); ++i)
    store_halves(branch_name(layer, i),
                 {layer.outputs, 1, folded.branches[i].kernel_h, folded.branches[i].kernel_w},
                 folded.weights[i], tensors);
  tensors.add_floats(layer.name + ".bias", {layer.outputs}, folded.bias.data());
}

Precision stored_precision(const Linear& linear, const TensorReader& reader) {
  const std::string name = prefix_of(linear.tensors) + ".weight";
  if (!reader.has(name))
    fail(Status::bad_file, "{}: '{}' is missing; shape {} is wanted", reader.source().describe(), name,
         to_string({outputs_of(linear), inputs_of(linear)}));
  const std::string dtype = reader.source().dtype(name);
  if (dtype == "F32") return Precision::fp32;
  if (dtype == "BF16") return Precision::bf16;
  if (dtype == "I8") return Precision::int8;
  fail(Status::bad_file, "{}: '{}': type {} found; F32, BF16 or I8 wanted", reader.source().describe(), name,
       dtype);
}

Int8Linear read_int8(const Linear& linear, TensorReader& reader) {
  const std::string name = prefix_of(linear.tensors);
  Int8Linear made;
  made.weights = reader.read_int8(name + ".weight", {outputs_of(linear), inputs_of(linear)});
  const auto lowest = std::find(made.weights.begin(), made.weights.end(), std::int8_t{-128});
  if (lowest != made.weights.end())
    fail(Status::bad_file, "{}: '{}.weight'[{}] is -128; allowed: -127 to 127", reader.source().describe(),
         name, lowest - made.weights.begin());
  made.multiplier = read_vector(name + ".multiplier", outputs_of(linear), reader);
  made.bias = read_vector(name + ".bias", outputs_of(linear), reader);
  made.quantiser.scale = read_vector(name + ".input_scale", inputs_of(linear), reader);
  made.quantiser.offset = read_vector(name + ".input_offset", inputs_of(linear), reader);
  return made;
}

FoldedDense read_linear(const Linear& linear, TensorReader& reader) {
  const std::string name = prefix_of(linear.tensors);
  const char* dtype = stored_precision(linear, reader) == Precision::bf16 ? "BF16" : "F32";
  return {read_finite(name + ".weight", {outputs_of(linear), inputs_of(linear)}, dtype, reader),
          read_finite(name + ".bias", {outputs_of(linear)}, "F32", reader)};
}

FoldedDense read_convolution(const Convolution& convolution, TensorReader& reader) {
  const std::string name = prefix_of(convolution.tensors);
  return {read_halves(name, convolution.tensors.shape, reader),
          read_finite(name + ".bias", {static_cast<int>(convolution.tensors.shape[0])}, "F32", reader)};
}

FoldedDepthwise read_depthwise(const Layer& layer, const Depthwise& depthwise, TensorReader& reader) {
  FoldedDepthwise folded;
  folded.branches = merged_branches(depthwise.branches);
  for (std::size_t i = 0; i < folded.branches.size(); ++i) {
    Buffer<float> weights =
        read_halves(branch_name(layer, i),
                    {layer.outputs, 1, folded.branches[i].kernel_h, folded.branches[i].kernel_w}, reader);
    folded.weights.push_back(std::move(weights));
  }
  folded.bias = read_finite(layer.name + ".bias", {layer.outputs}, "F32", reader);
  return folded;
}

}  // namespace replk::model
