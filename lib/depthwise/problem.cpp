#include "depthwise/problem.hpp"

#include <algorithm>
#include <array>
#include <utility>

#include "core/error.hpp"

namespace replk::depthwise {

using core::fail;
using core::Status;

namespace {

constexpr int max_kernel = 63, max_dilation = 64, max_extent = 1024, max_side = 65536, max_count = 1 << 20,
              max_branches = 16;
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

int output_size(int input, int pad, int extent, int stride) {
  const int room = input + 2 * pad - extent;
  return room < 0 ? 0 : room / stride + 1;
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

Axis Problem::vertical() const {
  return {height, out_height(), stride_h, 1, -pad_h, bounds(*this, true).extent()};
}
Axis Problem::horizontal() const {
  return {width, out_width(), stride_w, 1, -pad_w, bounds(*this, false).extent()};
}
Axis Problem::vertical(const Branch& b) const {
  const int inner = bounds(*this, true).before - centre(b.dilation_h, b.kernel_h);
  return {height, out_height(), stride_h, b.dilation_h, inner - pad_h, b.kernel_h};
}
Axis Problem::horizontal(const Branch& b) const {
  const int inner = bounds(*this, false).before - centre(b.dilation_w, b.kernel_w);
  return {width, out_width(), stride_w, b.dilation_w, inner - pad_w, b.kernel_w};
}

std::int64_t Problem::useful_macs() const {
  std::int64_t taps = 0;
  for (const Branch& b : branches) taps += vertical(b).meeting() * horizontal(b).meeting();
  return batch * channels * taps;
}

void set_default_padding(Problem& problem) {
  problem.pad_h = bounds(problem, true).before;
  problem.pad_w = bounds(problem, false).before;
}

void validate(const Problem& p) {
  check("batch (n)", p.batch, 1, max_count);
  check("channels (c)", p.channels, 1, max_count);
  check("height (h)", p.height, 1, max_side);
  check("width (w)", p.width, 1, max_side);
  check("number of branches (k)", static_cast<std::int64_t>(p.branches.size()), 1, max_branches);
  for (const Branch& b : p.branches) {
    check("kernel height (k)", b.kernel_h, 1, max_kernel);
    check("kernel width (k)", b.kernel_w, 1, max_kernel);
    check("vertical dilation (d)", b.dilation_h, 1, max_dilation);
    check("horizontal dilation (d)", b.dilation_w, 1, max_dilation);
    check("dilated kernel height", b.extent_h(), 1, max_extent);
    check("dilated kernel width", b.extent_w(), 1, max_extent);
  }
  check("vertical stride (s)", p.stride_h, 1, 2);
  check("horizontal stride (s)", p.stride_w, 1, 2);
  const Bounds vertical = bounds(p, true), horizontal = bounds(p, false);
  check("vertical padding (p)", p.pad_h, 0, vertical.extent() - 1);
  check("horizontal padding (p)", p.pad_w, 0, horizontal.extent() - 1);
  check("padded height (h + 2p)", p.height + 2 * p.pad_h, vertical.extent(), INT32_MAX);
  check("padded width (w + 2p)", p.width + 2 * p.pad_w, horizontal.extent(), INT32_MAX);
  for (const Branch& b : p.branches) {
    const int rows = output_size(p.height, -p.vertical(b).offset, b.extent_h(), p.stride_h);
    const int columns = output_size(p.width, -p.horizontal(b).offset, b.extent_w(), p.stride_w);
    if (rows != p.out_height() || columns != p.out_width())
      fail(Status::invalid_argument,
           "branch {}x{} gives an output of {}x{}, the branches together {}x{}; allowed: the same size (even "
           "and odd "
           "kernels do not mix)",
           b.kernel_h, b.kernel_w, rows, columns, p.out_height(), p.out_width());
  }
  // The factors are bounded, so that neither product can overflow before it is compared.
  check("elements of the input", p.batch * p.channels, 1, max_elements / (std::int64_t{p.height} * p.width));
  check("elements of the output", p.batch * p.channels, 1,
        max_elements / (std::int64_t{p.out_height()} * p.out_width()));
}

namespace {

class Parser {
 public:
  explicit Parser(std::string_view text) : text_(text) {}

  Problem run() {
    Problem p;
    p.batch = field("n");
    p.channels = field("c");
    p.height = field("h");
    p.width = field("w");
    expect("k");
    p.branches.clear();
    do {
      if (p.branches.size() == max_branches) error(fmt::format("at most {} branches", max_branches));
      p.branches.push_back(branch());
    } while (take(","));
    check_extents(p);
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
  /// Before any arithmetic on them: nine digits times nine digits overflow an int.
  static void check_extents(const Problem& p) {
    for (const Branch& b : p.branches) {
      check("kernel height (k)", b.kernel_h, 1, max_kernel);
      check("kernel width (k)", b.kernel_w, 1, max_kernel);
      check("vertical dilation (d)", b.dilation_h, 1, max_dilation);
      check("horizontal dilation (d)", b.dilation_w, 1, max_dilation);
    }
  }
  void options(Problem& p) {
    enum { stride, padding, layout, type, numerics, bias, activation, residual, kinds };
    std::array<bool, kinds> seen{};
    const auto once = [&](int kind, std::size_t position) {
      if (std::exchange(seen[kind], true)) {
        at_ = position;
        error("each option once, and no more");
      }
    };
    while (at_ < text_.size()) {
      const std::size_t position = at_;
      if (take("s")) {
        once(stride, position);
        const auto [vertical, horizontal] = pair();
        p.stride_h = vertical;
        p.stride_w = horizontal;
      } else if (take("p")) {
        once(padding, position);
        const auto [vertical, horizontal] = pair();
        p.pad_h = vertical;
        p.pad_w = horizontal;
      } else if (take("nchw")) {
        once(layout, position);
        p.layout = Layout::nchw;
      } else if (take("bf16")) {
        once(type, position);
        p.type = DataType::bf16;
      } else if (take("fp16")) {
        once(type, position);
        p.type = DataType::f16;
      } else if (take("exact")) {
        once(numerics, position);
        p.numerics = Numerics::exact;
      } else if (take("nobias")) {
        once(bias, position);
        p.epilogue.bias = false;
      } else if (take("+relu")) {
        once(activation, position);
        p.epilogue.activation = Activation::relu;
      } else if (take("+gelu")) {
        once(activation, position);
        p.epilogue.activation = Activation::gelu;
      } else if (take("+residual")) {
        once(residual, position);
        p.epilogue.residual = true;
      } else {
        error("s, p, nchw, bf16, fp16, exact, nobias, +relu, +gelu, +residual or the end");
      }
    }
  }

  std::string_view text_;
  std::size_t at_ = 0;
};

std::string pair_text(int first, int second) {
  return first == second ? fmt::format("{}", first) : fmt::format("{}x{}", first, second);
}

}  // namespace

Problem parse(std::string_view text) {
  return Parser(text).run();
}

std::string to_string(const Problem& p) {
  std::string text = fmt::format("n{}c{}h{}w{}", p.batch, p.channels, p.height, p.width);
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
  if (p.pad_h != standard.pad_h || p.pad_w != standard.pad_w)
    text += 'p', text += pair_text(p.pad_h, p.pad_w);
  if (p.layout == Layout::nchw) text += "nchw";
  if (p.type == DataType::bf16) text += "bf16";
  if (p.type == DataType::f16) text += "fp16";
  if (p.numerics == Numerics::exact) text += "exact";
  if (!p.epilogue.bias) text += "nobias";
  if (p.epilogue.activation == Activation::relu) text += "+relu";
  if (p.epilogue.activation == Activation::gelu) text += "+gelu";
  if (p.epilogue.residual) text += "+residual";
  return text;
}

}  // namespace replk::depthwise
