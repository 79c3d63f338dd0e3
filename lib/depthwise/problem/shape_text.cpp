// A problem as text, written and read: n1c128h56w56k31x31 and so on.
#include <algorithm>
#include <array>
#include <iterator>
#include <optional>
#include <set>
#include <string>

#include "core/error.hpp"
#include "depthwise/problem/limits.hpp"
#include "depthwise/problem/problem.hpp"

namespace replk::depthwise {

using core::fail;
using core::Status;

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
    {"exact", Option::numerics, [](Problem& p) { p.numerics = Numerics::exact; }},
    {"nobias", Option::bias, [](Problem& p) { p.epilogue.bias = false; }},
    {"+relu", Option::activation, [](Problem& p) { p.epilogue.activation = Activation::relu; }},
    {"+gelu", Option::activation, [](Problem& p) { p.epilogue.activation = Activation::gelu; }},
    {"+silu", Option::activation, [](Problem& p) { p.epilogue.activation = Activation::silu; }},
    {"+hardswish", Option::activation, [](Problem& p) { p.epilogue.activation = Activation::hard_swish; }},
    {"+scale", Option::scale, [](Problem& p) { p.epilogue.scale = true; }},
    {"+residual", Option::residual, [](Problem& p) { p.epilogue.residual = true; }},
};

/// What a tensor's type is called.
struct TypeWord {
  std::string_view text;
  DataType type;
};
constexpr TypeWord type_words[] = {
    {"fp32", DataType::f32}, {"bf16", DataType::bf16}, {"fp16", DataType::f16}, {"u8", DataType::u8}};

std::string_view text_of(DataType type) {
  return std::find_if(std::begin(type_words), std::end(type_words),
                      [=](const TypeWord& word) { return word.type == type; })
      ->text;
}

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
      } else if (const std::optional<DataType> type = this->type()) {
        once(Option::type, position);
        p.type = *type;
        if (take(">")) p.out_type = output_type();
        if (p.out_type == p.type) p.out_type.reset();
      } else {
        plain_option(p, position);
      }
    }
  }
  std::optional<DataType> type() {
    for (const TypeWord& word : type_words)
      if (take(word.text)) return word.type;
    return std::nullopt;
  }
  DataType output_type() {
    const std::optional<DataType> type = this->type();
    if (!type) error("fp32, bf16, fp16 or u8");
    return *type;
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
        "s, p, nchw, nchw>nhwc, nhwc>nchw, i, o, fp32, bf16, fp16, u8, exact, nobias, +relu, +gelu, +silu, "
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
  if (p.out_type)
    text += fmt::format("{}>{}", text_of(p.type), text_of(*p.out_type));
  else if (p.type != DataType::f32)
    text += text_of(p.type);
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
