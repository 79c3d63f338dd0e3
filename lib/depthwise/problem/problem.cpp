#include "depthwise/problem/problem.hpp"

#include <algorithm>

#include "core/error.hpp"
#include "depthwise/problem/limits.hpp"

namespace replk::depthwise {

using core::fail;
using core::Status;

namespace {

/// Padding that centres a branch: rows (or columns) of it before the pixel it is centred on.
int centre(int dilation, int kernel) {
  return dilation * (kernel - 1) / 2;
}

/// The bounding kernel along one axis.
struct Bounds {
  int before = 0, after = 0;  // rows before and after the centre
  int extent() const { return before + 1 + after; }
};

Bounds bounds(const Problem& p, bool rows) {
  Bounds b;
  for (const Branch& branch : p.branches) {
    const int before =
        rows ? centre(branch.dilation_h, branch.kernel_h) : centre(branch.dilation_w, branch.kernel_w);
    b.before = std::max(b.before, before);
    b.after = std::max(b.after, (rows ? branch.extent_h() : branch.extent_w()) - 1 - before);
  }
  return b;
}

int output_size(int input, const Padding& pad, int extent, int stride) {
  const int room = input + pad.before + pad.after - extent;
  return room < 0 ? 0 : room / stride + 1;
}

Strides dense(Layout layout, std::int64_t channels, std::int64_t height, std::int64_t width) {
  const std::int64_t image = channels * height * width;
  return layout == Layout::nhwc ? Strides{image, width * channels, channels, 1}
                                : Strides{image, width, 1, height * width};
}

/// Elements from the first to the last of so many images.
std::int64_t spanned(const Strides& s, std::int64_t images, int channels, int height, int width) {
  return (images - 1) * s.image + (height - 1) * s.row + (width - 1) * s.pixel + (channels - 1) * s.channel +
         1;
}

}  // namespace

int Problem::out_height() const {
  return output_size(height, pad_h, bounds(*this, true).extent(), stride_h);
}
int Problem::out_width() const {
  return output_size(width, pad_w, bounds(*this, false).extent(), stride_w);
}

Strides Problem::input_strides() const {
  return src_strides.value_or(dense(layout, input_channels(), height, width));
}
Strides Problem::output_strides() const {
  return dst_strides.value_or(dense(output_layout(), channels, out_height(), out_width()));
}
std::int64_t Problem::input_elements() const {
  return spanned(input_strides(), batch, input_channels(), height, width);
}
std::int64_t Problem::output_elements() const {
  return spanned(output_strides(), batch, channels, out_height(), out_width());
}

Axis Problem::vertical() const {
  return {height, out_height(), stride_h, 1, -pad_h.before, bounds(*this, true).extent()};
}
Axis Problem::horizontal() const {
  return {width, out_width(), stride_w, 1, -pad_w.before, bounds(*this, false).extent()};
}
Axis Problem::vertical(const Branch& b) const {
  const int inner = bounds(*this, true).before - centre(b.dilation_h, b.kernel_h);
  return {height, out_height(), stride_h, b.dilation_h, inner - pad_h.before, b.kernel_h};
}
Axis Problem::horizontal(const Branch& b) const {
  const int inner = bounds(*this, false).before - centre(b.dilation_w, b.kernel_w);
  return {width, out_width(), stride_w, b.dilation_w, inner - pad_w.before, b.kernel_w};
}

std::int64_t Problem::useful_macs() const {
  std::int64_t taps = 0;
  for (const Branch& b : branches) taps += vertical(b).meeting() * horizontal(b).meeting();
  return batch * channels * taps;
}

double bytes_written(const Problem& p) {
  return static_cast<double>(p.output_values(p.batch)) * static_cast<double>(size_of(p.output_type()));
}
double bytes_read(const Problem& p) {
  return static_cast<double>(p.input_values(p.batch)) * static_cast<double>(size_of(p.type)) +
         (p.epilogue.residual ? bytes_written(p) : 0);
}

void set_default_padding(Problem& problem) {
  const int vertical = bounds(problem, true).before, horizontal = bounds(problem, false).before;
  problem.pad_h = {vertical, vertical};
  problem.pad_w = {horizontal, horizontal};
}

void validate(const Branch& b) {
  check("kernel height (k)", b.kernel_h, 1, b.kernel_w == 1 ? max_line : max_kernel);
  check("kernel width (k)", b.kernel_w, 1, b.kernel_h == 1 ? max_line : max_kernel);
  check("vertical dilation (d)", b.dilation_h, 1, max_dilation);
  check("horizontal dilation (d)", b.dilation_w, 1, max_dilation);
  check("dilated kernel height", b.extent_h(), 1, most_extent);
  check("dilated kernel width", b.extent_w(), 1, most_extent);
}

void validate_batch(const Problem& p, std::int64_t batch) {
  check("batch (n)", batch, 1, max_count);
  check("elements of the input", batch * p.channels, 1, max_elements / (std::int64_t{p.height} * p.width));
  check("elements of the output", batch * p.channels, 1,
        max_elements / (std::int64_t{p.out_height()} * p.out_width()));
  check("elements between the input's first and last", batch, 1, max_elements / p.input_strides().image);
  check("elements between the output's first and last", batch, 1, max_elements / p.output_strides().image);
}

namespace {

/// Along one axis: branches are centred, so each is to give the output that all give, by itself.
void check_axis(const Padding& pad, const Axis& bounding, const Axis& branch, const Branch& b) {
  const int before = -branch.offset;
  const int size = output_size(bounding.input, {before, before + pad.after - pad.before}, branch.extent(),
                               bounding.stride);
  if (size != bounding.output)
    fail(Status::invalid_argument,
         "branch {}x{} gives an output of {}, the branches together {}; allowed: the same size (even and odd "
         "kernels do not mix)",
         b.kernel_h, b.kernel_w, size, bounding.output);
}

/// (count - 1) * stride + last, or more than is allowed: no product overflows.
std::int64_t reaching(std::int64_t count, std::int64_t stride, std::int64_t last) {
  return (count - 1) * std::min(stride, max_elements / count + 1) + last;
}

void check_strides(const char* tensor, Layout layout, const Strides& s, int channels, int height, int width) {
  const auto at_least = [&](const char* axis, std::int64_t value, std::int64_t least) {
    check(fmt::format("{}'s stride of {}", tensor, axis), value, least, max_elements);
  };
  if (layout == Layout::nhwc) {
    check(fmt::format("{}'s stride of channels", tensor), s.channel, 1, 1);
    at_least("pixels", s.pixel, channels);
    const std::int64_t line = reaching(width, s.pixel, channels);
    at_least("rows", s.row, line);
    at_least("images", s.image, reaching(height, s.row, line));
  } else {
    check(fmt::format("{}'s stride of pixels", tensor), s.pixel, 1, 1);
    at_least("rows", s.row, width);
    const std::int64_t plane = reaching(height, s.row, width);
    at_least("channels", s.channel, plane);
    at_least("images", s.image, reaching(channels, s.channel, plane));
  }
}

}  // namespace

void validate(const Problem& p) {
  check("batch (n)", p.batch, 1, max_count);
  check("channels (c)", p.channels, 1, max_count);
  check("channel multiplier (c..x)", p.multiplier, 1, max_multiplier);
  check("channels (c) beyond a multiple of the multiplier", p.channels % p.multiplier, 0, 0);
  check("height (h)", p.height, 1, max_side);
  check("width (w)", p.width, 1, max_side);
  check("number of branches (k)", static_cast<std::int64_t>(p.branches.size()), 1, max_branches);
  for (const Branch& b : p.branches) validate(b);
  check("vertical stride (s)", p.stride_h, 1, max_stride);
  check("horizontal stride (s)", p.stride_w, 1, max_stride);
  check("padding above (p)", p.pad_h.before, 1 - max_side, most_extent - 1);
  check("padding below (p)", p.pad_h.after, 1 - max_side, most_extent - 1);
  check("padding on the left (p)", p.pad_w.before, 1 - max_side, most_extent - 1);
  check("padding on the right (p)", p.pad_w.after, 1 - max_side, most_extent - 1);
  const Axis vertical = p.vertical(), horizontal = p.horizontal();
  check("padded height (h + p + p)", p.height + p.pad_h.before + p.pad_h.after, vertical.taps, INT32_MAX);
  check("padded width (w + p + p)", p.width + p.pad_w.before + p.pad_w.after, horizontal.taps, INT32_MAX);
  for (const Branch& b : p.branches) {
    check_axis(p.pad_h, vertical, p.vertical(b), b);
    check_axis(p.pad_w, horizontal, p.horizontal(b), b);
  }
  if (p.src_strides)
    check_strides("the input", p.layout, *p.src_strides, p.input_channels(), p.height, p.width);
  if (p.dst_strides)
    check_strides("the output", p.output_layout(), *p.dst_strides, p.channels, p.out_height(), p.out_width());
  validate_batch(p, p.batch);
}

}  // namespace replk::depthwise
