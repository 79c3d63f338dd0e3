// Problem descriptors of the C API, hostile ones too: what is accepted and small is run, and its gradients
// are.
#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <string>
#include <vector>

#include "replk/replk.h"
#include "tests/fuzz/limits.hpp"

namespace {

// Takes values off the front of the input; zeros behind its end.
class Reader {
 public:
  Reader(const std::uint8_t* data, std::size_t size) : data_(data), size_(size) {}
  std::uint8_t byte() { return size_ ? size_--, *data_++ : 0; }
  // Mostly small, at times any: the first byte says which.
  std::int64_t number() {
    const std::uint8_t first = byte();
    if (first < 0xf0) return first % 64;
    if (first < 0xf8) return std::int64_t{1} << (byte() % 64);
    std::uint64_t value = 0;
    for (int i = 0; i < 8; i++) value = value << 8 | byte();
    return static_cast<std::int64_t>(value);
  }
  std::string rest() {
    std::string text(reinterpret_cast<const char*>(data_), size_);
    size_ = 0;
    return text;
  }

 private:
  const std::uint8_t* data_;
  std::size_t size_;
};

constexpr std::int64_t small = 1 << 13;

/// Whether all tilings together are more than a second's work. Whole transforms grow with map and kernel, and
/// a larger map has those of segments as well: to choose among all of 63x63 on a map of 65,536 a side takes
/// 0.4 s, and 3 s when it is sanitized. (hostile_test chooses there.)
bool many_tilings(const replk_depthwise_problem& p) {
  std::int64_t kernel = 0;
  for (int i = 0; i < p.branch_count && i < 16; i++)
    kernel = std::max({kernel, std::int64_t{p.branches[i].kernel_h} * p.branches[i].dilation_h,
                       std::int64_t{p.branches[i].kernel_w} * p.branches[i].dilation_w});
  const std::int64_t side = std::max(p.height, p.width);
  return side + std::min(kernel, side) > 96;
}

/// Elements from the first to the last of so many images, or more than `small`.
std::int64_t spanned(const replk_strides& s, std::int64_t images, std::int64_t channels, std::int64_t height,
                     std::int64_t width) {
  if (s.image == 0 && s.row == 0 && s.pixel == 0 && s.channel == 0) return images * channels * height * width;
  // No more than 2^47 each was accepted, so no product of one with a count overflows.
  return (images - 1) * s.image + (height - 1) * s.row + (width - 1) * s.pixel + (channels - 1) * s.channel +
         1;
}

/// Elements that the caller must have.
struct Sizes {
  std::int64_t in = 0, out = 0;
};
Sizes sizes_of(const replk_depthwise_problem& p, const replk_depthwise* plan, std::int64_t images) {
  std::int32_t height = 0, width = 0;
  if (replk_depthwise_output_size(plan, &height, &width) != REPLK_OK || height < 1 || width < 1) std::abort();
  return {spanned(p.input_strides, images, p.channels, p.height, p.width),
          spanned(p.output_strides, images, std::int64_t{p.channels} * p.channel_multiplier, height, width)};
}

void use(const replk_depthwise_problem& p, replk_depthwise* plan, std::int64_t batch,
         const float* const* weights) {
  std::size_t bytes = 0;
  if (replk_depthwise_workspace_bytes(plan, &bytes) != REPLK_OK) std::abort();
  replk_run_options options = replk_run_options_default();
  options.batch = batch;
  const std::int64_t images = batch == 0 ? p.batch : batch;
  if (images < 1 || images > small) {  // too many, or none at all
    float nothing[1] = {};
    if (images < 1 &&
        replk_depthwise_run_with(plan, nothing, nothing, nothing, &options) != REPLK_INVALID_ARGUMENT)
      std::abort();
    return;
  }
  const auto [most_in, most_out] = sizes_of(p, plan, images);
  if (std::max(most_in, most_out) > small || bytes > 16 << 20) return;
  const std::size_t element = p.type == REPLK_F32 ? 4 : 2;
  const std::vector<std::uint8_t> src(most_in * element, 0x3c);
  std::vector<std::uint8_t> dst(most_out * element);
  const std::vector<std::uint8_t> residual(p.residual ? dst.size() : 0, 0x3c);
  const auto run = [&] {
    return replk_depthwise_run_with(plan, src.data(), dst.data(), p.residual ? residual.data() : nullptr,
                                    &options);
  };
  if (run() != REPLK_OK) std::abort();
  const std::vector<std::uint8_t> before = dst;
  if (replk_depthwise_set_weights(plan, weights, nullptr) != REPLK_OK || run() != REPLK_OK) std::abort();
  if (!p.bias && dst != before) std::abort();  // they are the same weights
}

/// Twice, with the same bits.
void run_gradients(const replk_depthwise_problem& p, const Sizes& sizes, replk_depthwise_gradient* gradient,
                   int wanted, const float* const* weights) {
  std::size_t workspace = 0;
  if (replk_depthwise_gradient_workspace_bytes(gradient, &workspace) != REPLK_OK) std::abort();
  if (std::max(sizes.in, sizes.out) > small || workspace > 16 << 20) return;
  const std::size_t element = p.type == REPLK_F32 ? 4 : 2;
  const std::vector<std::uint8_t> src(sizes.in * element, 0x3c), dy(sizes.out * element, 0x3c);
  std::vector<std::uint8_t> dx(src.size());
  const bool input = wanted != REPLK_GRADIENT_WEIGHTS, kernel = wanted != REPLK_GRADIENT_INPUT;
  const auto run_input = [&] {
    return replk_depthwise_gradient_input(gradient, dy.data(), dx.data(), nullptr);
  };
  if (run_input() != (input ? REPLK_OK : REPLK_INVALID_ARGUMENT)) std::abort();
  const std::vector<std::uint8_t> before = dx;
  if (input && (replk_depthwise_gradient_set_weights(gradient, weights) != REPLK_OK ||
                run_input() != REPLK_OK || dx != before))
    std::abort();
  std::vector<std::vector<float>> dweights(16);
  float* pointers[16];
  for (int i = 0; i < p.branch_count; i++) {
    dweights[i].resize(static_cast<std::size_t>(p.branches[i].kernel_h) * p.branches[i].kernel_w *
                       p.channels * std::max(p.channel_multiplier, 1));
    pointers[i] = dweights[i].data();
  }
  for (int accumulate = 0; accumulate < 2; accumulate++)
    if (replk_depthwise_gradient_weights(gradient, src.data(), dy.data(), pointers, nullptr, accumulate,
                                         nullptr) != (kernel ? REPLK_OK : REPLK_INVALID_ARGUMENT))
      std::abort();
}

/// plan: the forward one, or null where there is none.
void use_gradients(const replk_depthwise_problem& p, const replk_depthwise* plan, const float* const* weights,
                   std::uint8_t wanted) {
  replk_depthwise_gradient_options options = replk_depthwise_gradient_options_default();
  options.threads = 1;
  options.wanted = wanted % 5;  // there is no 4
  if (wanted & 0x80) options.layer = plan;
  auto* gradient = reinterpret_cast<replk_depthwise_gradient*>(&options);
  const replk_status status = replk_depthwise_gradient_create(&p, weights, &options, &gradient);
  if ((status == REPLK_OK) != (gradient != nullptr) || (status == REPLK_OK && options.wanted == 4))
    std::abort();
  if (status != REPLK_OK) {
    if (status == REPLK_INTERNAL || status == REPLK_OUT_OF_MEMORY || !*replk_last_error()) std::abort();
    return;
  }
  if (plan && p.batch <= small)
    run_gradients(p, sizes_of(p, plan, p.batch), gradient, options.wanted, weights);
  replk_depthwise_gradient_destroy(gradient);
}

}  // namespace

extern "C" int LLVMFuzzerInitialize(int*, char***) {
  setenv("REPLK_TUNING", "off", 1);  // no cache file, no clock
  return 0;
}

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  static const std::vector<float> weights(1 << 16, 0.01f);
  const replk::fuzz::Limits limits;
  Reader in(data, size);
  replk_depthwise_problem p = replk_depthwise_problem_default();
  p.batch = in.number();
  p.channels = static_cast<std::int32_t>(in.number());
  p.height = static_cast<std::int32_t>(in.number());
  p.width = static_cast<std::int32_t>(in.number());
  p.branch_count = static_cast<std::int32_t>(in.number());
  replk_branch branches[16];
  std::int64_t needed = 0;  // weights of the largest branch
  for (int i = 0; i < 16 && i < p.branch_count; i++) {
    branches[i] = {static_cast<std::int32_t>(in.number()), static_cast<std::int32_t>(in.number()),
                   static_cast<std::int32_t>(in.number()), static_cast<std::int32_t>(in.number())};
    const std::int64_t taps = std::int64_t{branches[i].kernel_h} * branches[i].kernel_w;
    std::int64_t here = 0;
    if (__builtin_mul_overflow(taps, std::int64_t{p.channels} * 4, &here)) here = INT64_MAX;
    needed = std::max(needed, here);
  }
  p.branches = branches;
  const std::uint8_t given = in.byte();
  if (given & 1)
    p.pad_h = static_cast<std::int32_t>(in.number()), p.pad_w = static_cast<std::int32_t>(in.number());
  if (given & 2)
    p.stride_h = static_cast<std::int32_t>(in.number()), p.stride_w = static_cast<std::int32_t>(in.number());
  if (given & 4) p.layout = static_cast<replk_layout>(in.byte() % 3);
  if (given & 8) p.type = static_cast<replk_type>(in.byte() % 4);
  if (given & 16) p.numerics = static_cast<replk_numerics>(in.byte() % 3);
  if (given & 32) p.activation = static_cast<replk_activation>(in.byte() % 6);
  const std::uint8_t more = in.byte();
  const auto narrow = [&] { return static_cast<std::int32_t>(in.number()); };
  const auto side = [&] { return (in.byte() & 1 ? -1 : 1) * (narrow() % (1 << 20)); };
  if (more & 1)
    p.explicit_padding = 1, p.pad_top = side(), p.pad_bottom = side(), p.pad_left = side(),
    p.pad_right = side();
  if (more & 2) p.output_layout = in.byte() % 4 - 1;
  const auto strides = [&] { return replk_strides{in.number(), in.number(), in.number(), in.number()}; };
  if (more & 4) p.input_strides = strides();
  if (more & 8) p.output_strides = strides();
  if (more & 16) p.scale = in.byte() & 1, p.channel_multiplier = in.byte() % 6;
  const std::int64_t batch = more & 32 ? in.number() : 0;
  if (given & 64) p.residual = in.byte() & 1, p.bias = in.byte() & 1;
  // A longer structure is a caller's of a later header, who vouches for its length: up to the most that is
  // read it is there.
  static std::vector<std::uint8_t> later(65536);
  std::uint8_t* newest = nullptr;
  if (given & 128) {
    p.struct_size = static_cast<std::size_t>(in.number());
    if (p.struct_size > sizeof p && p.struct_size <= later.size())
      *(newest = &later[p.struct_size - 1]) = in.byte() & 1;
  }

  replk_depthwise_options options = replk_depthwise_options_default();
  options.threads = 1;
  if (more & 64 && p.channels <= (1 << 14)) options.scale = weights.data();
  static const char* const algorithms[] = {nullptr,    "portable", "direct", "row-spectral",
                                           "spectral", "stripes",  "none"};
  options.algorithm = algorithms[in.byte() % 7];
  const std::uint8_t gradients = more & 128 ? in.byte() : 0;
  const std::string tiling = in.rest();
  if (!tiling.empty())
    options.tiling = tiling.c_str();
  else if (many_tilings(p) && (!options.algorithm || std::strstr("row-spectral stripes", options.algorithm)))
    options.algorithm = "direct";

  // The caller vouches for the weights' length. Where there are not so many here there are none, which is an
  // error that comes after all that is checked of the problem itself.
  const float* pointers[16];
  std::fill(std::begin(pointers), std::end(pointers), weights.data());
  const bool enough = needed <= static_cast<std::int64_t>(weights.size());
  replk_depthwise* plan = reinterpret_cast<replk_depthwise*>(&p);
  if (newest) std::memcpy(later.data(), &p, sizeof p);
  const replk_status status = replk_depthwise_create(
      newest ? reinterpret_cast<replk_depthwise_problem*>(later.data()) : &p, enough ? pointers : nullptr,
      p.bias && p.channels <= (1 << 14) ? weights.data() : nullptr, &options, &plan);
  if ((status == REPLK_OK) != (plan != nullptr)) std::abort();
  if (status == REPLK_INTERNAL || status == REPLK_OUT_OF_MEMORY) std::abort();
  if (status != REPLK_OK && !*replk_last_error()) std::abort();
  if (newest && *newest && status == REPLK_OK) std::abort();
  if (newest) *newest = 0;
  // What is behind the structure's end is not the caller's word.
  replk_depthwise_problem seen = replk_depthwise_problem_default();
  std::memcpy(&seen, &p, std::min(p.struct_size, sizeof p));
  seen.struct_size = sizeof seen;
  if (plan) use(seen, plan, batch, pointers);
  if (gradients && enough) use_gradients(seen, plan, pointers, gradients);
  replk_depthwise_destroy(plan);
  return 0;
}
