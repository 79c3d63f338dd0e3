#include "layer.hpp"

#include <algorithm>
#include <iterator>

namespace replk_layer {
namespace {

template <class Value, std::size_t n>
Value read_word(const char* field, const std::string& word, const std::pair<const char*, Value> (&words)[n]) {
  std::string allowed;
  for (const auto& [name, value] : words) {
    if (word == name) return value;
    allowed += (allowed.empty() ? "" : ", ") + std::string(name);
  }
  throw Refused(std::string(field) + " is '" + word + "'; allowed: " + allowed);
}

/// What the C API takes as int32_t.
std::int32_t narrow(const char* field, std::int64_t value) {
  if (value < INT32_MIN || value > INT32_MAX)
    throw Refused(std::string(field) + " is " + std::to_string(value) + "; allowed: to 2147483647");
  return static_cast<std::int32_t>(value);
}

}  // namespace

Map read_map(std::span<const std::int64_t> s, replk_layout layout) {
  if (s.size() != 3 && s.size() != 4)
    throw Refused("the input has " + std::to_string(s.size()) + " dimensions; allowed: 3 or 4");
  const bool flat = s.size() == 3;
  if (layout == REPLK_NCHW) return {s[0], s[1], flat ? 1 : s[2], s.back()};
  return {s[0], s.back(), flat ? 1 : s[1], flat ? s[1] : s[2]};
}

std::vector<std::int64_t> sizes_of(const Map& m, replk_layout layout, std::size_t rank) {
  if (layout == REPLK_NCHW)
    return rank == 3 ? std::vector{m.batch, m.channels, m.width}
                     : std::vector{m.batch, m.channels, m.height, m.width};
  return rank == 3 ? std::vector{m.batch, m.width, m.channels}
                   : std::vector{m.batch, m.height, m.width, m.channels};
}

replk_activation read_activation(const std::string& word) {
  return read_word<replk_activation>("activation", word,
                                     {{"none", REPLK_NONE},
                                      {"relu", REPLK_RELU},
                                      {"gelu", REPLK_GELU},
                                      {"silu", REPLK_SILU},
                                      {"hardswish", REPLK_HARD_SWISH}});
}
replk_layout read_layout(const std::string& word) {
  return read_word<replk_layout>("layout", word, {{"NCHW", REPLK_NCHW}, {"NHWC", REPLK_NHWC}});
}
replk_numerics read_numerics(const std::string& word) {
  return read_word<replk_numerics>("numerics", word, {{"fast", REPLK_FAST}, {"exact", REPLK_EXACT}});
}

std::int64_t output_side(std::int64_t input, std::int64_t before, std::int64_t after, std::int64_t span,
                         std::int64_t stride) {
  const std::int64_t room = input + before + after - span;
  return room < 0 ? 0 : room / stride + 1;
}

Layer::Layer(Description description) : description_(std::move(description)) {
  for (const std::int64_t stride : description_.strides)
    if (stride < 1 || stride > 16)
      throw Refused("a stride is " + std::to_string(stride) + "; allowed: 1 to 16");
  for (const std::int64_t pad : description_.pads)
    if (pad < 0 || pad > 1023) throw Refused("a pad is " + std::to_string(pad) + "; allowed: 0 to 1023");
  for (const replk_branch& b : description_.branches) {
    spans_[0] = std::max<std::int64_t>(spans_[0], std::int64_t{b.dilation_h} * (b.kernel_h - 1) + 1);
    spans_[1] = std::max<std::int64_t>(spans_[1], std::int64_t{b.dilation_w} * (b.kernel_w - 1) + 1);
  }
}

Map Layer::output(const Map& input) const {
  const Description& d = description_;
  if (input.channels != d.channels)
    throw Refused("the input has " + std::to_string(input.channels) +
                  " channels; allowed: " + std::to_string(d.channels) + ", as the weights have");
  const Map output{input.batch, std::int64_t{d.channels} * d.channel_multiplier,
                   output_side(input.height, d.pads[0], d.pads[2], spans_[0], d.strides[0]),
                   output_side(input.width, d.pads[1], d.pads[3], spans_[1], d.strides[1])};
  if (output.height < 1 || output.width < 1)
    throw Refused("the input is " + std::to_string(input.height) + "x" + std::to_string(input.width) +
                  ", which with its pads is smaller than the kernel");
  return output;
}

Layer::Plan Layer::make(const Map& input, int threads) const {
  const Description& d = description_;
  replk_depthwise_problem p = replk_depthwise_problem_default();
  p.batch = std::max<std::int64_t>(input.batch, 1);
  p.channels = d.channels;
  p.height = narrow("height", input.height);
  p.width = narrow("width", input.width);
  p.branches = d.branches.data();
  p.branch_count = static_cast<std::int32_t>(d.branches.size());
  p.explicit_padding = 1;
  p.pad_top = static_cast<std::int32_t>(d.pads[0]);
  p.pad_left = static_cast<std::int32_t>(d.pads[1]);
  p.pad_bottom = static_cast<std::int32_t>(d.pads[2]);
  p.pad_right = static_cast<std::int32_t>(d.pads[3]);
  p.stride_h = static_cast<std::int32_t>(d.strides[0]);
  p.stride_w = static_cast<std::int32_t>(d.strides[1]);
  p.layout = d.input;
  p.output_layout = d.output;
  p.type = d.type;
  p.numerics = d.numerics;
  p.activation = d.activation;
  p.bias = !d.bias.empty();
  p.scale = !d.scale.empty();
  p.residual = d.residual;
  p.channel_multiplier = d.channel_multiplier;
  std::vector<const float*> weights;
  std::ranges::transform(d.weights, std::back_inserter(weights), [](const auto& w) { return w.data(); });
  replk_depthwise_options options = replk_depthwise_options_default();
  options.threads = threads;
  options.scale = d.scale.empty() ? nullptr : d.scale.data();
  replk_depthwise* made = nullptr;
  if (replk_depthwise_create(&p, weights.data(), d.bias.empty() ? nullptr : d.bias.data(), &options, &made) !=
      REPLK_OK)
    throw Refused(replk_last_error());
  return {made, replk_depthwise_destroy};
}

Layer::Plan Layer::plan(const Map& input, int threads) {
  // Another run of this layer that comes meanwhile wants the same plan, mostly: it waits.
  const std::lock_guard lock(mutex_);
  const auto found = std::ranges::find_if(plans_, [&](const Entry& e) {
    return e.height == input.height && e.width == input.width && e.threads == threads;
  });
  if (found != plans_.end()) {
    plans_.splice(plans_.begin(), plans_, found);
  } else {
    plans_.push_front({input.height, input.width, threads, make(input, threads)});
    if (plans_.size() > capacity) plans_.pop_back();
  }
  return plans_.front().plan;
}

}  // namespace replk_layer
