#include "model/parameters.hpp"

#include "model/stored_layer.hpp"

namespace replk::model {
namespace {

std::span<const float> view(const core::Buffer<float>& buffer) {
  return {buffer.data(), buffer.size()};
}

std::shared_ptr<dense::LinearWeights> plain_linear(const ConvTensors& tensors, int inputs, int outputs,
                                                   TensorReader& reader) {
  const core::Buffer<float> weights = reader.read(tensors.weight, tensors.shape);
  const core::Buffer<float> bias = reader.read(tensors.bias, {outputs});
  return std::make_shared<dense::LinearWeights>(inputs, outputs, view(weights), view(bias));
}

void set_linear(Parameters& parameters, const Layer& layer, const FoldedDense& folded) {
  parameters.weight_bytes = (folded.weights.size() + folded.bias.size()) * sizeof(float);
  parameters.linear = std::make_shared<dense::LinearWeights>(
      layer.inputs, layer.outputs, view(folded.weights), view(folded.bias), parameters.precision);
}

void set_int8(Parameters& parameters, const Layer& layer, Int8Linear made) {
  parameters.weight_bytes =
      made.weights.size() + (made.multiplier.size() + made.quantiser.scale.size()) * 2 * sizeof(float);
  parameters.linear = std::make_shared<dense::LinearWeights>(
      layer.inputs, layer.outputs,
      dense::Int8Weights{made.weights, made.multiplier, made.bias, &made.quantiser});
  parameters.quantiser = std::move(made.quantiser);
}

void set_convolution(Parameters& parameters, const Layer& layer, const FoldedDense& folded) {
  parameters.weight_bytes = (folded.weights.size() + folded.bias.size()) * sizeof(float);
  parameters.convolution = std::make_shared<dense::ConvolutionWeights>(
      layer.inputs, layer.outputs, layer.kernel_h, layer.kernel_w, view(folded.weights), view(folded.bias));
}

void set_depthwise(Parameters& parameters, FoldedDepthwise folded) {
  for (const auto& weights : folded.weights) parameters.weight_bytes += weights.size() * sizeof(float);
  parameters.weight_bytes += folded.bias.size() * sizeof(float);
  parameters.depthwise = std::move(folded);
}

/// Norms and squeeze-excite, whose tensors have the same names and types in every form.
void set_plain(Parameters& parameters, const Layer& layer, TensorReader& reader) {
  const auto floats = [&](std::size_t count) { parameters.weight_bytes += count * sizeof(float); };
  if (layer.operation == Operation::squeeze_excite) {
    parameters.linear = plain_linear(layer.tensors[0], layer.inputs, layer.hidden, reader);
    parameters.up = plain_linear(layer.tensors[1], layer.hidden, layer.inputs, reader);
    floats(2 * std::size_t(layer.inputs) * layer.hidden + layer.inputs + layer.hidden);
  } else if (layer.operation == Operation::layer_norm || layer.operation == Operation::grn) {
    const ConvTensors& norm = layer.tensors[0];
    parameters.gain = reader.read(norm.weight, norm.shape);
    if (!norm.bias.empty()) parameters.offset = reader.read(norm.bias, norm.shape);
    floats(parameters.gain.size() + parameters.offset.size());
  }
}

}  // namespace

Parameters load_parameters(const Layer& layer, Precision precision, TensorReader& reader, int threads) {
  Parameters parameters;
  parameters.precision = precision;
  if (layer.operation == Operation::depthwise)
    set_depthwise(parameters, fold_depthwise(layer, reader, threads));
  else if (layer.operation == Operation::linear)
    set_linear(parameters, layer, fold_dense(layer, reader, threads));
  else if (layer.operation == Operation::convolution)
    set_convolution(parameters, layer, fold_dense(layer, reader, threads));
  else
    set_plain(parameters, layer, reader);
  return parameters;
}

Parameters load_stored_parameters(const Layer& layer, TensorReader& reader) {
  Parameters parameters;
  if (layer.operation == Operation::linear) {
    parameters.precision = stored_precision(layer, reader);
    if (parameters.precision == Precision::int8)
      set_int8(parameters, layer, read_int8(layer, reader));
    else
      set_linear(parameters, layer, read_linear(layer, reader));
  } else if (layer.operation == Operation::depthwise) {
    set_depthwise(parameters, read_depthwise(layer, reader));
  } else if (layer.operation == Operation::convolution) {
    set_convolution(parameters, layer, read_convolution(layer, reader));
  } else {
    set_plain(parameters, layer, reader);
  }
  return parameters;
}

}  // namespace replk::model
