#include "model/fold.hpp"

#include <algorithm>
#include <cmath>
#include <span>

#include "core/error.hpp"
#include "core/threads.hpp"

namespace replk::model {
namespace {

using core::Buffer;
using core::fail;
using core::Status;
using depthwise::Branch;

Shape without_last_ones(Shape shape) {
  while (!shape.empty() && shape.back() == 1) shape.pop_back();
  return shape;
}

/// What follows a convolution's sum, per output: its own bias, then its BN. A fused form has the bias alone.
Affine output_affine(const ConvTensors& tensors, int channels, TensorReader& reader) {
  Affine affine{std::vector<double>(channels, 1.0), std::vector<double>(channels, 0.0)};
  const bool has_bn = !tensors.batch_norm.empty() && reader.has(tensors.batch_norm + ".weight");
  const bool has_bias = reader.has(tensors.bias);
  if (!tensors.batch_norm.empty() && !has_bn && !has_bias)
    fail(Status::bad_file, "{}: '{}.weight' is missing, and '{}' in its place too",
         reader.source().describe(), tensors.batch_norm,
         tensors.bias.empty() ? tensors.weight : tensors.bias);
  const bool needs_bias = tensors.batch_norm.empty() && !tensors.bias.empty();
  if (has_bias || needs_bias) {
    const Buffer<float> bias = reader.read(tensors.bias, {channels});
    std::copy(bias.begin(), bias.end(), affine.offset.begin());
  }
  if (has_bn) {
    const Affine bn = fold_batch_norm(tensors.batch_norm, channels, tensors.bn_epsilon, reader);
    for (int c = 0; c < channels; ++c) {
      affine.scale[c] = bn.scale[c];
      affine.offset[c] = affine.offset[c] * bn.scale[c] + bn.offset[c];
    }
  }
  return affine;
}

/// A branch before rounding.
struct DoubleBranch {
  Branch branch;
  Buffer<double> weights;
};

/// Whether every tap of `inner` falls on a tap of `outer`, both centred.
bool covers(const Branch& outer, const Branch& inner) {
  return outer.dilation_h == 1 && outer.dilation_w == 1 && inner.extent_h() <= outer.extent_h() &&
         inner.extent_w() <= outer.extent_w() && (outer.extent_h() - inner.extent_h()) % 2 == 0 &&
         (outer.extent_w() - inner.extent_w()) % 2 == 0;
}

void add_into(DoubleBranch& outer, const DoubleBranch& inner, int channels) {
  const Branch& big = outer.branch;
  const Branch& small = inner.branch;
  const int top = (big.extent_h() - small.extent_h()) / 2, left = (big.extent_w() - small.extent_w()) / 2;
  for (int c = 0; c < channels; ++c)
    for (int a = 0; a < small.kernel_h; ++a)
      for (int b = 0; b < small.kernel_w; ++b) {
        const std::size_t row = std::size_t(c) * big.kernel_h + top + a * small.dilation_h;
        outer.weights[row * big.kernel_w + left + b * small.dilation_w] +=
            inner.weights[(std::size_t(c) * small.kernel_h + a) * small.kernel_w + b];
      }
}

DoubleBranch scaled(const Branch& branch, const Buffer<float>& weights, const std::vector<double>& scale) {
  DoubleBranch result{branch, Buffer<double>(weights.size())};
  const std::size_t taps = branch.taps();
  for (std::size_t i = 0; i < weights.size(); ++i) result.weights[i] = weights[i] * scale[i / taps];
  return result;
}

/// in: of the input (1x1 kernels); scale: of the output behind everything. Both empty for none.
FoldedDense fold(const ConvTensors& tensors, const Affine& in, std::span<const float> scale,
                 TensorReader& reader, int threads) {
  const int outputs = static_cast<int>(tensors.shape[0]);
  FoldedDense folded{reader.read(tensors.weight, tensors.shape), Buffer<float>(outputs)};
  Affine out = output_affine(tensors, outputs, reader);
  for (std::size_t o = 0; o < scale.size(); ++o) {
    out.scale[o] *= scale[o];
    out.offset[o] *= scale[o];
  }
  const std::size_t row_size = folded.weights.size() / outputs;
  const auto fold_row = [&](std::int64_t o, int) {
    float* row = folded.weights.data() + o * row_size;
    double offset = 0;
    for (std::size_t i = 0; i < in.scale.size(); ++i) {  // 1x1 here, so row_size is inputs
      offset += row[i] * in.offset[i];
      row[i] = static_cast<float>(row[i] * (in.scale[i] * out.scale[o]));
    }
    if (in.scale.empty())
      for (std::size_t i = 0; i < row_size; ++i) row[i] = static_cast<float>(row[i] * out.scale[o]);
    folded.bias[o] = static_cast<float>(offset * out.scale[o] + out.offset[o]);
  };
  core::parallel_for(outputs, threads, fold_row);
  return folded;
}

}  // namespace

void TensorReader::expect(const std::string& name, const Shape& shape) {
  const Shape* found = source_.shape(name);
  if (found == nullptr)
    fail(Status::bad_file, "{}: '{}' is missing; shape {} is wanted", source_.describe(), name,
         to_string(shape));
  if (without_last_ones(*found) != without_last_ones(shape))
    fail(Status::bad_file, "{}: '{}': shape {} found, {} wanted", source_.describe(), name, to_string(*found),
         to_string(shape));
  used_.insert(name);
}

Buffer<float> TensorReader::read(const std::string& name, const Shape& shape) {
  expect(name, shape);
  Buffer<float> tensor(static_cast<std::size_t>(elements(shape)));
  source_.read(name, {tensor.data(), tensor.size()});
  return tensor;
}

std::vector<std::int8_t> TensorReader::read_int8(const std::string& name, const Shape& shape) {
  expect(name, shape);
  if (source_.dtype(name) != "I8")
    fail(Status::bad_file, "{}: '{}': type {} found, I8 wanted", source_.describe(), name,
         source_.dtype(name));
  std::vector<std::int8_t> tensor(static_cast<std::size_t>(elements(shape)));
  source_.read_bytes(name, std::as_writable_bytes(std::span(tensor)));
  return tensor;
}

std::vector<std::string> TensorReader::unread() const {
  std::vector<std::string> unread;
  for (const std::string& name : source_.names())
    if (!used_.contains(name) && !name.ends_with(".num_batches_tracked")) unread.push_back(name);
  return unread;
}

Affine fold_batch_norm(const std::string& prefix, int channels, double epsilon, TensorReader& reader) {
  const Buffer<float> gain = reader.read(prefix + ".weight", {channels});
  const Buffer<float> offset = reader.read(prefix + ".bias", {channels});
  const Buffer<float> mean = reader.read(prefix + ".running_mean", {channels});
  const Buffer<float> variance = reader.read(prefix + ".running_var", {channels});
  Affine affine{std::vector<double>(channels), std::vector<double>(channels)};
  for (int c = 0; c < channels; ++c) {
    if (!(variance[c] >= 0) || std::isinf(variance[c]))
      fail(Status::bad_file, "{}: '{}.running_var'[{}] is {}; a number of at least 0 is wanted",
           reader.source().describe(), prefix, c, variance[c]);
    affine.scale[c] = gain[c] / std::sqrt(variance[c] + epsilon);
    affine.offset[c] = offset[c] - mean[c] * affine.scale[c];
  }
  return affine;
}

FoldedDense fold_convolution(const Convolution& convolution, TensorReader& reader, int threads) {
  return fold(convolution.tensors, {}, {}, reader, threads);
}

FoldedDense fold_linear(const Linear& linear, TensorReader& reader, int threads) {
  const ConvTensors& tensors = linear.tensors;
  const int outputs = static_cast<int>(tensors.shape[0]), inputs = static_cast<int>(tensors.shape[1]);
  const bool fused = !tensors.batch_norm.empty() && !reader.has(tensors.batch_norm + ".weight");
  // Both or neither: one alone is a file that has lost the other.
  const bool lacks_affine = fused && linear.fused_form_lacks_affine && !reader.has(linear.output_scale) &&
                            !reader.has(linear.input_offset);
  Buffer<float> scale;
  if (!linear.output_scale.empty() && !lacks_affine) scale = reader.read(linear.output_scale, {outputs});
  Affine in;
  if (!linear.input_batch_norm.empty()) {
    in = fold_batch_norm(linear.input_batch_norm, inputs, tensors.bn_epsilon, reader);
  } else if (!linear.input_offset.empty() && !lacks_affine) {
    const Buffer<float> offset = reader.read(linear.input_offset, {1, 1, 1, inputs});
    in = {std::vector<double>(inputs, 1.0), std::vector<double>(offset.begin(), offset.end())};
  }
  return fold(tensors, in, {scale.data(), scale.size()}, reader, threads);
}

std::vector<depthwise::Branch> merged_branches(const std::vector<depthwise::Branch>& branches) {
  std::vector<depthwise::Branch> merged;
  for (const Branch& branch : branches)
    if (std::none_of(merged.begin(), merged.end(),
                     [&](const Branch& outer) { return covers(outer, branch); }))
      merged.push_back(branch);
  return merged;
}

FoldedDepthwise fold_depthwise(const Depthwise& layer, int channels, TensorReader& reader, int threads) {
  std::vector<DoubleBranch> branches;
  std::vector<double> bias(channels, 0.0);
  // Either shows it, so that the other is missed by name; UniRepLKNet's weight has one name in both forms.
  const bool is_merged = reader.has(layer.merged.bias) ||
                         (layer.merged.weight != layer.tensors[0].weight && reader.has(layer.merged.weight));
  if (is_merged) {
    const Affine affine = output_affine(layer.merged, channels, reader);
    branches.push_back(
        scaled(layer.branches[0], reader.read(layer.merged.weight, layer.merged.shape), affine.scale));
    bias = affine.offset;
  } else {
    for (std::size_t i = 0; i < layer.branches.size(); ++i) {
      const ConvTensors& tensors = layer.tensors[i];
      const Buffer<float> weights = reader.read(tensors.weight, tensors.shape);
      const Affine affine = output_affine(tensors, channels, reader);
      DoubleBranch branch = scaled(layer.branches[i], weights, affine.scale);
      for (int c = 0; c < channels; ++c) bias[c] += affine.offset[c];
      const auto outer = std::find_if(branches.begin(), branches.end(),
                                      [&](const auto& other) { return covers(other.branch, branch.branch); });
      if (outer != branches.end())
        add_into(*outer, branch, channels);
      else
        branches.push_back(std::move(branch));
    }
  }
  Affine sum{std::vector<double>(channels, 1.0), std::vector<double>(channels, 0.0)};
  if (!layer.sum_batch_norm.empty() && !(is_merged && !reader.has(layer.sum_batch_norm + ".weight")))
    sum = fold_batch_norm(layer.sum_batch_norm, channels, 1e-5, reader);

  FoldedDepthwise folded;
  for (const DoubleBranch& branch : branches) {
    Buffer<float> weights(branch.weights.size());
    // They are read again only when a map of another size comes.
    core::keep_pages_small(weights.data(), weights.size() * sizeof(float));
    const std::size_t taps = branch.branch.taps();
    const auto round_channel = [&](std::int64_t c, int) {
      for (std::size_t i = c * taps; i < (c + 1) * taps; ++i)
        weights[i] = static_cast<float>(branch.weights[i] * sum.scale[c]);
    };
    core::parallel_for(channels, threads, round_channel);
    folded.branches.push_back(branch.branch);
    folded.weights.push_back(std::move(weights));
  }
  folded.bias = Buffer<float>(channels);
  for (int c = 0; c < channels; ++c)
    folded.bias[c] = static_cast<float>(bias[c] * sum.scale[c] + sum.offset[c]);
  return folded;
}

}  // namespace replk::model
