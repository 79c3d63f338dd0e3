#include "depthwise/problem/problem.hpp"

#include <algorithm>
#include <array>
#include <set>

#include "core/error.hpp"

namespace replk::depthwise {

using core::fail;
using core::Status;

namespace {

constexpr int max_kernel = 63, max_line = 127, max_dilation = 64, max_side = 65536, max_stride = 16,
              max_count = 1 << 20, max_branches = 16, max_multiplier = 4;
constexpr std::int64_t max_elements = std::int64_t{1} << 47;

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

void check(std::string_view field, std::int64_t value, std::int64_t low, std::int64_t high) {
  if (value < low || value > high)
    fail(Status::invalid_argument, "{} is {}; allowed: {} to {}", field, value, low, high);
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

namespace {

enum class Option { stride, padding, layout, src, dst, type, numerics, bias, activation, scale, residual };

/// An option without numbers: what it is called, what it is one of, what it does. The first one that fits is
/// taken.
struct Word {
  std::string_view text;
  Option option;
  void (*set)(Problem&);
};
constexpr Word words[] = {
    {"nchw>nhwc", Option::layout, [](Problem& p) { p.layout = Layout::nchw, p.out_layout = Layout::nhwc; }},
    {"nhwc>nchw", Option::layout, [](Problem& p) { p.out_layout = Layout::nchw; }},
    {"nchw", Option::layout, [](Problem& p) { p.layout = Layout::nchw; }},
    {"bf16", Option::type, [](Problem& p) { p.type = DataType::bf16; }},
    {"fp16", Option::type, [](Problem& p) { p.type = DataType::f16; }},
    {"exact", Option::numerics, [](Problem& p) { p.numerics = Numerics::exact; }},
    {"nobias", Option::bias, [](Problem& p) { p.epilogue.bias = false; }},
    {"+relu", Option::activation, [](Problem& p) { p.epilogue.activation = Activation::relu; }},
    {"+gelu", Option::activation, [](Problem& p) { p.epilogue.activation = Activation::gelu; }},
    {"+silu", Option::activation, [](Problem& p) { p.epilogue.activation = Activation::silu; }},
    {"+hardswish", Option::activation, [](Problem& p) { p.epilogue.activation = Activation::hard_swish; }},
    {"+scale", Option::scale, [](Problem& p) { p.epilogue.scale = true; }},
    {"+residual", Option::residual, [](Problem& p) { p.epilogue.residual = true; }},
};

class Parser {
 public:
  explicit Parser(std::string_view text) : text_(text) {}

  Problem run() {
    Problem p;
    p.batch = field("n");
    p.channels = field("c");
    if (take("x")) {
      p.multiplier = number();
      check("channels (c)", p.channels, 1, max_count);  // before their product
      check("channel multiplier (c..x)", p.multiplier, 1, max_multiplier);
      p.channels *= p.multiplier;
    }
    p.height = field("h");
    p.width = field("w");
    expect("k");
    p.branches.clear();
    do {
      if (p.branches.size() == max_branches) error(fmt::format("at most {} branches", max_branches));
      p.branches.push_back(branch());
      validate(p.branches.back());  // before any arithmetic: nine digits times nine digits overflow an int
    } while (take(","));
    set_default_padding(p);
    options(p);
    validate(p);
    return p;
  }

 private:
  [[noreturn]] void error(const std::string& wanted) const {
    const std::string_view shown = text_.substr(0, 200);
    fail(Status::invalid_argument, "shape '{}': {} expected at position {}", shown, wanted, at_ + 1);
  }
  bool take(std::string_view word) {
    if (text_.substr(at_, word.size()) != word) return false;
    at_ += word.size();
    return true;
  }
  void expect(std::string_view word) {
    if (!take(word)) error(fmt::format("'{}'", word));
  }
  int number() {
    int value = 0, digits = 0;
    for (; at_ < text_.size() && text_[at_] >= '0' && text_[at_] <= '9'; at_++, digits++) {
      if (digits == 9) error("a number of at most 9 digits");
      value = value * 10 + (text_[at_] - '0');
    }
    if (digits == 0) error("a number");
    return value;
  }
  int field(std::string_view letter) {
    expect(letter);
    return number();
  }
  /// `3` or `3x5`.
  std::array<int, 2> pair() {
    const int first = number();
    return {first, take("x") ? number() : first};
  }
  Branch branch() {
    Branch b;
    const auto [height, width] = pair();
    b.kernel_h = height;
    b.kernel_w = width;
    if (take("d")) {
      const auto [vertical, horizontal] = pair();
      b.dilation_h = vertical;
      b.dilation_w = horizontal;
    }
    return b;
  }
  /// `2`, `-1`, `1:2`: before and after the map.
  Padding sides() {
    const auto side = [this] { return take("-") ? -number() : number(); };
    const int before = side();
    return {before, take(":") ? side() : before};
  }
  std::int64_t long_number() {
    std::int64_t value = 0;
    int digits = 0;
    for (; at_ < text_.size() && text_[at_] >= '0' && text_[at_] <= '9'; at_++, digits++) {
      if (digits == 15) error("a number of at most 15 digits");
      value = value * 10 + (text_[at_] - '0');
    }
    if (digits == 0) error("a number");
    return value;
  }
  /// The strides of a layout that are not 1, innermost first.
  Strides strides(Layout layout) {
    Strides s;
    std::int64_t& inner = layout == Layout::nhwc ? s.pixel : s.row;
    std::int64_t& middle = layout == Layout::nhwc ? s.row : s.channel;
    (layout == Layout::nhwc ? s.channel : s.pixel) = 1;
    inner = long_number();
    expect("x");
    middle = long_number();
    expect("x");
    s.image = long_number();
    return s;
  }
  /// Takes all that is left.
  void options(Problem& p) {
    while (at_ < text_.size()) {
      const std::size_t position = at_;
      if (take("s")) {
        once(Option::stride, position);
        const auto [vertical, horizontal] = pair();
        p.stride_h = vertical;
        p.stride_w = horizontal;
      } else if (take("p")) {
        once(Option::padding, position);
        p.pad_h = sides();
        p.pad_w = take("x") ? sides() : p.pad_h;
      } else if (take("i")) {
        once(Option::src, position);
        seen_.insert(Option::layout);  // whose strides these are: it comes first
        p.src_strides = strides(p.layout);
      } else if (take("o")) {
        once(Option::dst, position);
        seen_.insert(Option::layout);
        p.dst_strides = strides(p.output_layout());
      } else {
        plain_option(p, position);
      }
    }
  }
  /// An option without numbers.
  void plain_option(Problem& p, std::size_t position) {
    for (const Word& word : words)
      if (take(word.text)) {
        once(word.option, position);
        word.set(p);
        return;
      }
    error(
        "s, p, nchw, nchw>nhwc, nhwc>nchw, i, o, bf16, fp16, exact, nobias, +relu, +gelu, +silu, "
        "+hardswish, +scale, +residual or the end");
  }
  void once(Option option, std::size_t position) {
    if (seen_.insert(option).second) return;
    at_ = position;
    error("each option once, and no more");
  }

  std::set<Option> seen_;
  std::string_view text_;
  std::size_t at_ = 0;
};

std::string pair_text(int first, int second) {
  return first == second ? fmt::format("{}", first) : fmt::format("{}x{}", first, second);
}

std::string padding_text(const Padding& p) {
  return p.before == p.after ? fmt::format("{}", p.before) : fmt::format("{}:{}", p.before, p.after);
}

std::string strides_text(Layout layout, const Strides& s) {
  return layout == Layout::nhwc ? fmt::format("{}x{}x{}", s.pixel, s.row, s.image)
                                : fmt::format("{}x{}x{}", s.row, s.channel, s.image);
}

}  // namespace

Problem parse(std::string_view text) {
  return Parser(text).run();
}

std::string to_string(const Problem& p) {
  std::string text = fmt::format("n{}c{}", p.batch, p.input_channels());
  if (p.multiplier != 1) text += fmt::format("x{}", p.multiplier);
  text += fmt::format("h{}w{}", p.height, p.width);
  char separator = 'k';
  for (const Branch& b : p.branches) {
    text += separator;
    text += pair_text(b.kernel_h, b.kernel_w);
    if (b.dilation_h != 1 || b.dilation_w != 1) text += 'd', text += pair_text(b.dilation_h, b.dilation_w);
    separator = ',';
  }
  if (p.stride_h != 1 || p.stride_w != 1) text += 's', text += pair_text(p.stride_h, p.stride_w);
  Problem standard = p;
  set_default_padding(standard);
  if (p.pad_h != standard.pad_h || p.pad_w != standard.pad_w) {
    text += 'p', text += padding_text(p.pad_h);
    if (p.pad_w != p.pad_h) text += 'x', text += padding_text(p.pad_w);
  }
  if (p.output_layout() != p.layout)
    text += p.layout == Layout::nchw ? "nchw>nhwc" : "nhwc>nchw";
  else if (p.layout == Layout::nchw)
    text += "nchw";
  if (p.src_strides) text += 'i', text += strides_text(p.layout, *p.src_strides);
  if (p.dst_strides) text += 'o', text += strides_text(p.output_layout(), *p.dst_strides);
  if (p.type == DataType::bf16) text += "bf16";
  if (p.type == DataType::f16) text += "fp16";
  if (p.numerics == Numerics::exact) text += "exact";
  if (!p.epilogue.bias) text += "nobias";
  if (p.epilogue.activation == Activation::relu) text += "+relu";
  if (p.epilogue.activation == Activation::gelu) text += "+gelu";
  if (p.epilogue.activation == Activation::silu) text += "+silu";
  if (p.epilogue.activation == Activation::hard_swish) text += "+hardswish";
  if (p.epilogue.scale) text += "+scale";
  if (p.epilogue.residual) text += "+residual";
  return text;
}

}  // namespace replk::depthwise
