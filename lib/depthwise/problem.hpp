// What is to be computed: plain data, with its one-line spelling (docs/shapes.md).
#pragma once
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "core/types.hpp"
#include "depthwise/axis.hpp"

namespace replk::depthwise {

enum class Numerics { fast, exact };

/// One linear branch; the branches of a problem are summed. Extent: dilation * (kernel - 1) + 1.
struct Branch {
  int kernel_h = 1, kernel_w = 1;
  int dilation_h = 1, dilation_w = 1;
  int extent_h() const { return dilation_h * (kernel_h - 1) + 1; }
  int extent_w() const { return dilation_w * (kernel_w - 1) + 1; }
  /// Taps (kernel_h * kernel_w).
  int taps() const { return kernel_h * kernel_w; }
  bool operator==(const Branch&) const = default;
};

/// Applied in this order: bias, activation, residual.
struct Epilogue {
  bool bias = true;
  Activation activation = Activation::none;
  bool residual = false;
  bool operator==(const Epilogue&) const = default;
};

/// A depthwise convolution (cross-correlation, as in PyTorch). Padding is that of the bounding kernel, the
/// smallest rectangle that holds all centred branches: branch b lies at offset (bounding pad - its own
/// default pad).
struct Problem {
  std::int64_t batch = 1;
  int channels = 1, height = 1, width = 1;  // of the input
  std::vector<Branch> branches{Branch{}};
  int pad_h = 0, pad_w = 0;  // of the bounding kernel, on both sides
  int stride_h = 1, stride_w = 1;
  Layout layout = Layout::nhwc;
  DataType type = DataType::f32;
  Numerics numerics = Numerics::fast;
  Epilogue epilogue;

  int out_height() const;
  int out_width() const;
  /// The two sides of the bounding kernel (dilation 1), and of a branch in it.
  Axis vertical() const;
  Axis horizontal() const;
  Axis vertical(const Branch& branch) const;
  Axis horizontal(const Branch& branch) const;
  std::int64_t input_elements() const { return batch * channels * height * width; }
  std::int64_t output_elements() const { return batch * channels * out_height() * out_width(); }
  /// Multiply-adds whose tap meets the map (not padding), over all branches and the whole batch.
  std::int64_t useful_macs() const;

  bool operator==(const Problem&) const = default;
};

/// Sets pad_h, pad_w to the default: the largest branch's floor(dilation * (kernel - 1) / 2).
void set_default_padding(Problem& problem);

/// Throws invalid_argument, naming field, value and range, unless every field is in range, all branches give
/// the same output size, and no size overflows 2^47 elements. Ranges: batch 1..2^20, channels 1..2^20, height
/// and width 1..65536, kernel 1..63, dilation 1..64, extent at most 1024, stride 1..2 (each axis), padding
/// 0..extent-1... see .cpp
void validate(const Problem& problem);

/// `n1c128h56w56k31x31` and so on. parse(to_string(p)) == p. Throws invalid_argument with the position of the
/// fault.
Problem parse(std::string_view text);
std::string to_string(const Problem& problem);

}  // namespace replk::depthwise
