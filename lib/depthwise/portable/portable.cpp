#include "depthwise/portable/portable.hpp"

#include <algorithm>
#include <cstdint>
#include <functional>

#include "core/fma.hpp"
#include "core/gelu.hpp"
#include "core/half.hpp"
#include "core/swish.hpp"
#include "core/threads.hpp"
#include "depthwise/problem/rows.hpp"
#include "jit/x64/fingerprint.hpp"

namespace replk::depthwise {
namespace {

/// One output row of one image, as the row functions see it. Planes (NCHW input): of one channel.
template <class T>
struct Row {
  const Problem& problem;
  const Kernel& kernel;
  const Axis &vertical, &horizontal;  // of the kernel
  const simd::RowLayout &input, &output;
  const float *weights, *bias, *scale;  // scale null for none
  const T* src;                         // the image (and the channel)
  void* dst;                            // the whole tensor, in its own type
  const void* residual;                 // as dst; null for none
  std::int64_t out;                     // where the row (and the channel) begins in it
  int row;                              // of the output

  const float* at(int a, int b) const {
    return weights + (std::int64_t{a} * kernel.width + b) * problem.channels;
  }
};

template <class Fma>
[[gnu::always_inline]] inline float activate(float value, Activation activation, Fma fma) {
  if (activation == Activation::relu) return core::relu(value);
  if (activation == Activation::gelu) return core::gelu(value, fma);
  if (activation == Activation::silu) return core::silu(value, fma);
  if (activation == Activation::hard_swish) return core::hard_swish(value, fma);
  return value;
}

struct PortableConstants {
  std::int32_t block = 32;      // channels, or columns in NCHW, whose sums are held at once
  std::int32_t most_taps = 16;  // of a chain of class fast
};
constexpr int block = PortableConstants().block;

/// Class exact is one chain of fused multiply-adds that begins with the bias. Class fast adds up a few of
/// them at a time in double, so that the error does not grow with the kernel; what is short enough has the
/// bits of class exact.
class Chains {
 public:
  explicit Chains(Numerics numerics) : left_(numerics == Numerics::fast ? most_taps : INT64_MAX) {}
  /// Before each tap.
  [[gnu::always_inline]] void tap(float* sums, int count) {
    if (--left_ < 0) end_chain(sums, count);
  }
  void finish(float* sums, int count) {
    if (!cut_) return;
    for (int i = 0; i < count; i++) sums[i] = static_cast<float>(sums[i] + totals_[i]);
  }

 private:
  static constexpr int most_taps = PortableConstants().most_taps;
  void end_chain(float* sums, int count) {
    for (int i = 0; i < count; i++) {
      totals_[i] = cut_ ? totals_[i] + sums[i] : sums[i];
      sums[i] = 0;
    }
    cut_ = true;
    left_ = most_taps - 1;
  }

  double totals_[block];
  std::int64_t left_;
  bool cut_ = false;
};

/// The epilogue, of values that lie `step` elements apart from `at` in the row on. scale: null, or a factor
/// each, `scale_step` apart.
template <class T, class Fma>
[[gnu::always_inline]] inline void store(const Row<T>& r, float* sums, int count, std::int64_t at,
                                         std::int64_t step, const float* scale, int scale_step, Fma fma) {
  for (int i = 0; i < count; i++) {
    sums[i] = activate(sums[i], r.problem.epilogue.activation, fma);
    if (scale) sums[i] *= scale[i * scale_step];
  }
  core::with_type(r.output.type, [&](auto type) {
    using To = decltype(type);
    To* const dst = static_cast<To*>(r.dst) + r.out + at;
    const To* const residual = r.residual ? static_cast<const To*>(r.residual) + r.out + at : nullptr;
    for (int i = 0; i < count; i++) {
      if (residual) sums[i] += core::to_float(residual[i * step]);
      dst[i * step] = core::from_float<To>(sums[i]);
    }
  });
}

/// Channels [first, first + count) of one pixel, channels-last.
template <class T, class Fma>
[[gnu::always_inline]] inline void pixel(const Row<T>& r, int column, int first, int count, Range rows,
                                         Fma fma) {
  const Kernel& k = r.kernel;
  const int top = r.vertical.origin(r.row), left = r.horizontal.origin(column);
  const Range columns = r.horizontal.taps_of(column);
  const int repeat = r.input.repeat;
  Chains chains(r.problem.numerics);
  float sums[block];
  for (int i = 0; i < count; i++) sums[i] = r.bias[first + i];
  for (int a = rows.first; a < rows.end; a++)
    for (int b = columns.first; b < columns.end; b++) {
      if (!k.has(a, b)) continue;
      const T* x = r.src + r.input.at(0, top + a, first, left + b);
      const float* w = r.at(a, b) + first;
      chains.tap(sums, count);
      if (repeat == 1)
        for (int i = 0; i < count; i++) sums[i] = fma(w[i], core::to_float(x[i]), sums[i]);
      else
        for (int i = 0; i < count; i++)
          sums[i] = fma(w[i], core::to_float(x[(first % repeat + i) / repeat]), sums[i]);
    }
  chains.finish(sums, count);
  store(r, sums, count, r.output.at(0, 0, first, column), r.output.channel_stride,
        r.scale ? r.scale + first : nullptr, 1, fma);
}

template <class T, class Fma>
[[gnu::always_inline]] inline void channels_last_row(const Row<T>& r, Fma fma) {
  const Range rows = r.vertical.taps_of(r.row);
  const int whole = r.problem.channels / block * block, rest = r.problem.channels - whole;
  for (int column = 0; column < r.output.width; column++) {
    for (int first = 0; first < whole; first += block) pixel(r, column, first, block, rows, fma);
    if (rest) pixel(r, column, whole, rest, rows, fma);
  }
}

/// A row of one channel's plane: columns side by side instead of channels.
template <class T, class Fma>
[[gnu::always_inline]] inline void plane_row(const Row<T>& r, int channel, Fma fma) {
  const int stride = r.problem.stride_w;
  const Kernel& k = r.kernel;
  const int top = r.vertical.origin(r.row);
  const Range rows = r.vertical.taps_of(r.row);
  for (int first = 0; first < r.output.width; first += block) {
    const int count = std::min(block, r.output.width - first);
    Chains chains(r.problem.numerics);
    float sums[block];
    std::fill_n(sums, block, r.bias[channel]);
    for (int a = rows.first; a < rows.end; a++) {
      const T* x = r.src + r.input.at(0, top + a, 0);
      for (int b = 0; b < k.width; b++) {
        if (!k.has(a, b)) continue;
        const int left = r.horizontal.origin(first) + b;  // input column of the first sum
        const Range columns = r.horizontal.outputs_of(b);
        const int begin = std::max(0, columns.first - first), end = std::min(count, columns.end - first);
        const float w = r.at(a, b)[channel];
        chains.tap(sums, count);
        if (stride == 1)
          for (int i = begin; i < end; i++) sums[i] = fma(w, core::to_float(x[left + i]), sums[i]);
        else
          for (int i = begin; i < end; i++) sums[i] = fma(w, core::to_float(x[left + i * stride]), sums[i]);
      }
    }
    chains.finish(sums, count);
    store(r, sums, count, r.output.at(0, 0, 0, first), r.output.pixel_stride,
          r.scale ? r.scale + channel : nullptr, 0, fma);
  }
}

template <class T, class Fma>
[[gnu::always_inline]] inline void any_row(const Row<T>& r, int channel, Fma fma) {
  if (r.problem.layout == Layout::nhwc)
    channels_last_row(r, fma);
  else
    plane_row(r, channel, fma);
}

// The same code twice: for a CPU with fused multiply-add, where __builtin_fmaf is one instruction, and for
// one without.
struct HardwareFma {
  [[gnu::always_inline]] float operator()(float a, float b, float c) const { return __builtin_fmaf(a, b, c); }
};
struct EmulatedFma {
  [[gnu::always_inline]] float operator()(float a, float b, float c) const {
    return core::emulated_fma(a, b, c);
  }
};
template <class T>
[[gnu::target("avx2,fma")]] void row_with_fma(const Row<T>& r, int channel) {
  any_row(r, channel, HardwareFma{});
}
template <class T>
void row_without_fma(const Row<T>& r, int channel) {
  any_row(r, channel, EmulatedFma{});
}

class Portable final : public Executor {
 public:
  explicit Portable(const Request& request)
      : problem_(request.problem),
        kernel_(request.kernel),
        vertical_(request.vertical()),
        horizontal_(request.horizontal()),
        input_(input_rows(problem_)),
        output_(output_rows(problem_)),
        weights_(static_cast<std::size_t>(kernel_.taps()) * problem_.channels),
        bias_(problem_.channels),
        scale_(problem_.epilogue.scale ? problem_.channels : 0) {}

  void set_weights(const Weights& weights, int threads) override {
    const int channels = problem_.channels;
    const auto body = [&](std::int64_t row, int) {
      constexpr int lanes = 8;
      float taps[most_extent * lanes];
      for (int first = 0; first < channels; first += lanes) {
        const int count = std::min(lanes, channels - first);
        weights.row(kernel_, static_cast<int>(row), first, lanes, taps);
        for (int b = 0; b < kernel_.width; b++)
          std::copy_n(taps + b * lanes, count, &weights_[(row * kernel_.width + b) * channels + first]);
      }
    };
    core::parallel_for(kernel_.height, threads, std::ref(body));
    weights.bias(0, channels, bias_.data());
    if (problem_.epilogue.scale) weights.scale(0, channels, scale_.data());
  }

  std::size_t workspace_bytes(int) const override { return 0; }
  void run(const Tensors& tensors, const Run& run) const override {
    core::with_type(problem_.type, [&](auto type) { run_as<decltype(type)>(tensors, run); });
  }
  std::vector<Phase> phases(int) const override { return {{"rows", tasks(problem_.batch)}}; }
  Work work() const override {
    return {.fma = static_cast<double>(meeting_taps(problem_, kernel_)),
            .bytes_read = bytes_read(problem_) + 4.0 * weights_.size(),
            .bytes_written = bytes_written(problem_)};
  }
  std::size_t prepared_bytes() const override {
    return sizeof(float) * (weights_.size() + bias_.size() + scale_.size()) + kernel_.support.size();
  }

 private:
  /// Rows of all images, and of all planes in NCHW.
  std::int64_t tasks(std::int64_t batch) const {
    return batch * problem_.out_height() * (problem_.layout == Layout::nchw ? problem_.channels : 1);
  }

  template <class T>
  void run_as(const Tensors& tensors, const Run& run) const {
    const Problem& p = problem_;
    const int height = p.out_height(), planes = p.layout == Layout::nchw ? p.channels : 1;
    const auto row = core::cpu().isa >= Isa::avx2 ? row_with_fma<T> : row_without_fma<T>;
    const auto body = [&](std::int64_t task, int) {
      const std::int64_t image = task / height / planes;
      const int channel = static_cast<int>(task / height % planes), y = static_cast<int>(task % height);
      row({p, kernel_, vertical_, horizontal_, input_, output_, weights_.data(), bias_.data(),
           p.epilogue.scale ? scale_.data() : nullptr,
           static_cast<const T*>(tensors.src) + input_.at(image, 0, channel), tensors.dst,
           p.epilogue.residual ? tensors.residual : nullptr, output_.at(image, y, channel), y},
          channel);
    };
    core::parallel_for(tasks(run.batch), run.threads, std::ref(body));
  }

  Problem problem_;
  Kernel kernel_;
  Axis vertical_, horizontal_;
  simd::RowLayout input_, output_;
  std::vector<float> weights_;  // [height][width][channels]
  std::vector<float> bias_, scale_;
};

class PortableVariant final : public Variant {
 public:
  explicit PortableVariant(const Request& request) : request_(request) {}
  Tiling tiling() const override { return {"portable", {}}; }
  double predict(const Machine& m) const override {
    return static_cast<double>(meeting_taps(request_.problem, request_.kernel)) / m.plain / request_.threads;
  }
  std::unique_ptr<Executor> prepare() const override { return std::make_unique<Portable>(request_); }

 private:
  Request request_;
};

class PortableAlgorithm final : public Algorithm {
 public:
  std::string_view name() const override { return "portable"; }
  bool exact() const override { return true; }
  int complexity() const override { return 0; }
  std::span<const std::int32_t> constants() const override { return jit::values_of<PortableConstants>; }

 private:
  std::unique_ptr<Variant> read_fields(const Request& request, const Tiling& tiling) const override {
    return tiling.fields.empty() ? std::make_unique<PortableVariant>(request) : nullptr;
  }
  std::vector<Candidate> every_candidate(const Request& request) const override {
    const PortableVariant only(request);
    // It needs no permission to use what the CPU has.
    return {{only.tiling(), only.predict(machine(features_of(core::cpu().isa)))}};
  }
};

}  // namespace

const Algorithm& portable_algorithm() {
  static const PortableAlgorithm algorithm;
  return algorithm;
}

}  // namespace replk::depthwise
