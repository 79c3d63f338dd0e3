// What is to be computed: plain data, with its one-line spelling (docs/shapes.md).
#pragma once
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "core/types.hpp"
#include "depthwise/problem/axis.hpp"

namespace replk::depthwise {

enum class Numerics { fast, exact };

/// Of a dilated kernel, rows or columns.
constexpr int most_extent = 1024;

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

/// Applied in this order: bias, activation, scale (a factor a channel), residual.
struct Epilogue {
  bool bias = true;
  Activation activation = Activation::none;
  bool residual = false;
  bool scale = false;
  bool operator==(const Epilogue&) const = default;
};

/// Rows (columns) of zeros before and after the map. Less than 0 crops it.
struct Padding {
  int before = 0, after = 0;
  bool operator==(const Padding&) const = default;
};

/// How far elements that follow each other along an axis of a tensor lie apart, in elements.
struct Strides {
  std::int64_t image = 0, row = 0, pixel = 0, channel = 0;
  bool operator==(const Strides&) const = default;
};

/// A depthwise convolution (cross-correlation, as in PyTorch). Padding is that of the bounding kernel, the
/// smallest rectangle that holds all centred branches: branch b lies at offset (bounding pad - its own
/// default pad).
struct Problem {
  std::int64_t batch = 1;
  int channels = 1;           // of the output, and of the input times the multiplier
  int multiplier = 1;         // output channel c reads input channel c / multiplier
  int height = 1, width = 1;  // of the input
  std::vector<Branch> branches{Branch{}};
  Padding pad_h, pad_w;  // of the bounding kernel
  int stride_h = 1, stride_w = 1;
  Layout layout = Layout::nhwc;      // of the input, and of output and residual
  std::optional<Layout> out_layout;  // unless theirs is another
  /// Of the input, and of output and residual; none: no gaps. Elements do not overlap, and the order of the
  /// axes is the layout's.
  std::optional<Strides> src_strides, dst_strides;
  DataType type = DataType::f32;     // of the input, and of output and residual
  std::optional<DataType> out_type;  // unless theirs is another
  Numerics numerics = Numerics::fast;
  Epilogue epilogue;

  int out_height() const;
  int out_width() const;
  /// The two sides of the bounding kernel (dilation 1), and of a branch in it.
  Axis vertical() const;
  Axis horizontal() const;
  Axis vertical(const Branch& branch) const;
  Axis horizontal(const Branch& branch) const;
  int input_channels() const { return channels / multiplier; }
  Layout output_layout() const { return out_layout.value_or(layout); }
  DataType output_type() const { return out_type.value_or(type); }
  Strides input_strides() const;
  Strides output_strides() const;
  /// Values of a tensor of so many images.
  std::int64_t input_values(std::int64_t images) const { return images * input_channels() * height * width; }
  std::int64_t output_values(std::int64_t images) const {
    return images * channels * out_height() * out_width();
  }
  /// Elements from a tensor's first value to its last, gaps included, of `batch` images.
  std::int64_t input_elements() const;
  std::int64_t output_elements() const;
  /// Multiply-adds whose tap meets the map (not padding), over all branches and the whole batch.
  std::int64_t useful_macs() const;

  bool operator==(const Problem&) const = default;
};

/// Sets pad_h, pad_w to the default: the largest branch's floor(dilation * (kernel - 1) / 2).
void set_default_padding(Problem& problem);

/// Throws invalid_argument, naming field, value and range, unless every field is in range, all branches give
/// the same output size, and no size overflows 2^47 elements. Ranges: batch 1..2^20, channels 1..2^20,
/// multiplier 1..4, height and width 1..65536, stride 1..16, padding -65535..1023 on each side as long as a
/// kernel fits in what is left, those of a branch, and strides that let no two elements overlap.
void validate(const Problem& problem);
/// The same of a branch alone, before anything is computed from it: kernel 1..63, or to 127 where the other
/// side is 1; dilation 1..64; extent at most 1024.
void validate(const Branch& branch);
/// The same of the number of images of a run.
void validate_batch(const Problem& problem, std::int64_t batch);

/// `n1c128h56w56k31x31` and so on. parse(to_string(p)) == p. Throws invalid_argument with the position of the
/// fault.
Problem parse(std::string_view text);
std::string to_string(const Problem& problem);

/// Bytes of its tensors that a run reads, a residual too, and writes.
double bytes_read(const Problem& problem);
double bytes_written(const Problem& problem);

}  // namespace replk::depthwise
