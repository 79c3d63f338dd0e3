// What both ops share: torch's tensors as the library takes them.
#pragma once
#include <replk/replk.h>
#include <torch/csrc/inductor/aoti_torch/c/shim.h>
#include <torch/csrc/stable/library.h>
#include <torch/csrc/stable/ops.h>
#include <torch/csrc/stable/tensor.h>

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <stdexcept>
#include <string>
#include <type_traits>
#include <vector>

#include "plans.hpp"

namespace replk_torch {

using torch::headeronly::ScalarType;
using torch::stable::Tensor;

/// Throws one line unless it holds. (STD_TORCH_CHECK's line begins with a place in this source.)
template <class... Words>
void require(bool holds, const Words&... words) {
  if (holds) return;
  std::string line = "replk: ";
  const auto add = [&](const auto& word) {
    if constexpr (std::is_arithmetic_v<std::decay_t<decltype(word)>>)
      line += std::to_string(word);
    else
      line += word;
  };
  (add(words), ...);
  throw std::runtime_error(line);
}

/// Throws the library's message.
void check(replk_status status);

/// A tensor's, as long as it lives: one question to torch for all dimensions, where each costs a call.
const std::int64_t* sizes_of(const Tensor& t);
const std::int64_t* strides_of(const Tensor& t);

/// PyTorch's own rule (suggest_memory_format), ambiguous cases included: conv2d's result has its input's
/// format.
bool channels_last(const Tensor& t);

/// A parameter as fp32 in C order, of a contiguous tensor.
class Parameter {
 public:
  explicit Parameter(const Tensor& t);
  const float* data() const { return data_; }

 private:
  std::vector<float> copy_;
  const float* data_;
};

std::size_t bytes_of(const Tensor& t);
Tensor contiguous(const Tensor& t);
/// A dense tensor of a type that torch names by a number (aoti_torch_get_dtype).
Tensor empty(std::span<const std::int64_t> sizes, std::span<const std::int64_t> strides, std::int32_t type);
/// One of these sides with x's batch, channels and type.
Tensor empty_result(const Tensor& x, std::int64_t height, std::int64_t width, bool last);

/// An activation, with strides as the library takes them; a copy where whole pixels (rows) cannot be read as
/// they lie.
struct Activations {
  Activations(const Tensor& t, bool last);
  Tensor tensor;
  replk_strides strides;
};

/// How a layer's kernel lies over its input.
struct Layer {
  std::int64_t stride_h, stride_w, dilation_h, dilation_w, top, bottom, left, right;
  replk_activation activation;
};
/// Out of the one integer that ops take: python/replk/torch/_layer.py packs it.
Layer unpack(std::int64_t layer);

/// 4-dimensional x, weight [channels, 1, kernel_h, kernel_w] of as many channels.
void check_shapes(const Tensor& x, const Tensor& weight);
/// Sides of the output.
struct Sides {
  std::int64_t height, width;
};
Sides output_sides(std::int64_t height, std::int64_t width, std::int64_t kernel_h, std::int64_t kernel_w,
                   const Layer& layer);

replk_branch branch_of(std::int64_t kernel_h, std::int64_t kernel_w, const Layer& layer);
/// One branch (which outlives this), no activation.
replk_depthwise_problem problem_of(std::int64_t channels, std::int64_t height, std::int64_t width,
                                   const Layer& layer, const replk_branch& branch, bool last,
                                   ScalarType type);
/// What of it a plan depends on.
Key key_of(const replk_depthwise_problem& problem, int threads);

}  // namespace replk_torch
