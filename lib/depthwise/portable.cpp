#include "depthwise/portable.hpp"

#include <algorithm>
#include <functional>

#include "core/fma.hpp"
#include "core/gelu.hpp"
#include "core/half.hpp"
#include "core/threads.hpp"

namespace replk::depthwise {
namespace {

using core::Bf16;
using core::F16;

/// One output row of one image, as the row functions see it. Layout tells what src and dst point to:
/// channels-last, the image and the row in it; NCHW, one channel's plane and the row in it.
template <class T>
struct Row {
  const Problem& problem;
  const Kernel& kernel;
  const T* src;
  T* dst;
  const T* residual;  // null for none
  int row;            // of the output
  int out_width;
};

/// The taps [first, end) of an axis that meet the map for one output position.
struct Span {
  int first, end;
};
inline Span meeting(int origin, int taps, int input) {
  return {std::max(0, -origin), std::min(taps, input - origin)};
}

template <class Fma>
[[gnu::always_inline]] inline float finish(float value, Activation activation, Fma fma) {
  if (activation == Activation::relu) return core::relu(value);
  if (activation == Activation::gelu) return core::gelu(value, fma);
  return value;
}

constexpr int block = 32;  // channels, or columns in NCHW, whose sums are held at once

template <class T, class Fma>
[[gnu::always_inline]] inline void store(const float* sums, int count, T* dst, const T* residual,
                                         Activation activation, Fma fma) {
  for (int i = 0; i < count; i++) {
    float value = finish(sums[i], activation, fma);
    if (residual) value += core::to_float(residual[i]);
    dst[i] = core::from_float<T>(value);
  }
}

/// Channels [first, first + count) of one pixel, channels-last.
template <class T, class Fma>
[[gnu::always_inline]] inline void pixel(const Row<T>& r, int column, int first, int count, Span rows,
                                         Fma fma) {
  const Problem& p = r.problem;
  const Kernel& k = r.kernel;
  const std::int64_t channels = p.channels;
  const int top = r.row * p.stride_h + k.offset_h, left = column * p.stride_w + k.offset_w;
  const Span columns = meeting(left, k.width, p.width);
  float sums[block];
  for (int i = 0; i < count; i++) sums[i] = k.bias[first + i];
  for (int a = rows.first; a < rows.end; a++)
    for (int b = columns.first; b < columns.end; b++) {
      if (!k.has(a, b)) continue;
      const T* x = r.src + (std::int64_t{top + a} * p.width + left + b) * channels + first;
      const float* w = k.at(a, b) + first;
      for (int i = 0; i < count; i++) sums[i] = fma(w[i], core::to_float(x[i]), sums[i]);
    }
  const std::int64_t at = column * channels + first;
  store(sums, count, r.dst + at, r.residual ? r.residual + at : nullptr, p.epilogue.activation, fma);
}

template <class T, class Fma>
[[gnu::always_inline]] inline void channels_last_row(const Row<T>& r, Fma fma) {
  const Span rows =
      meeting(r.row * r.problem.stride_h + r.kernel.offset_h, r.kernel.height, r.problem.height);
  const int whole = r.problem.channels / block * block, rest = r.problem.channels - whole;
  for (int column = 0; column < r.out_width; column++) {
    for (int first = 0; first < whole; first += block) pixel(r, column, first, block, rows, fma);
    if (rest) pixel(r, column, whole, rest, rows, fma);
  }
}

/// A row of one channel's plane: columns side by side instead of channels.
template <class T, class Fma>
[[gnu::always_inline]] inline void plane_row(const Row<T>& r, int channel, Fma fma) {
  const Problem& p = r.problem;
  const Kernel& k = r.kernel;
  const int top = r.row * p.stride_h + k.offset_h;
  const Span rows = meeting(top, k.height, p.height);
  for (int first = 0; first < r.out_width; first += block) {
    const int count = std::min(block, r.out_width - first);
    float sums[block];
    std::fill_n(sums, block, k.bias[channel]);
    for (int a = rows.first; a < rows.end; a++) {
      const T* x = r.src + std::int64_t{top + a} * p.width;
      for (int b = 0; b < k.width; b++) {
        if (!k.has(a, b)) continue;
        const int left = first * p.stride_w + k.offset_w + b;  // input column of the first sum
        const int begin = left >= 0 ? 0 : (-left + p.stride_w - 1) / p.stride_w;
        const int end = left >= p.width ? 0 : std::min(count, (p.width - 1 - left) / p.stride_w + 1);
        const float w = k.at(a, b)[channel];
        if (p.stride_w == 1)
          for (int i = begin; i < end; i++) sums[i] = fma(w, core::to_float(x[left + i]), sums[i]);
        else
          for (int i = begin; i < end; i++)
            sums[i] = fma(w, core::to_float(x[left + i * p.stride_w]), sums[i]);
      }
    }
    store(sums, count, r.dst + first, r.residual ? r.residual + first : nullptr, p.epilogue.activation, fma);
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
  Portable(const Problem& problem, const Kernel& kernel) : problem_(problem), kernel_(kernel) {}

  std::size_t workspace_bytes(int) const override { return 0; }
  void run(const Tensors& tensors, void*, int threads) const override {
    switch (problem_.type) {
      case DataType::f32:
        return run_as<float>(tensors, threads);
      case DataType::bf16:
        return run_as<Bf16>(tensors, threads);
      case DataType::f16:
        return run_as<F16>(tensors, threads);
    }
  }
  std::vector<Phase> phases(int) const override { return {{"rows", tasks()}}; }
  Work work() const override {
    const double size = static_cast<double>(size_of(problem_.type));
    const double inputs = static_cast<double>(problem_.input_elements());
    const double outputs = static_cast<double>(problem_.output_elements());
    return {.fma = static_cast<double>(meeting_taps(problem_, kernel_)),
            .bytes_read =
                size * (inputs + (problem_.epilogue.residual ? outputs : 0)) + 4.0 * kernel_.weights.size(),
            .bytes_written = size * outputs};
  }
  std::size_t prepared_bytes() const override {
    return sizeof(float) * (kernel_.weights.size() + kernel_.bias.size()) + kernel_.support.size();
  }

 private:
  /// Rows of all images, and of all planes in NCHW.
  std::int64_t tasks() const {
    return problem_.batch * problem_.out_height() * (problem_.layout == Layout::nchw ? problem_.channels : 1);
  }

  template <class T>
  void run_as(const Tensors& tensors, int threads) const {
    const Problem& p = problem_;
    const int height = p.out_height(), width = p.out_width();
    const bool planes = p.layout == Layout::nchw;
    const std::int64_t pixel = planes ? 1 : p.channels;  // elements
    const auto row = core::cpu().isa >= Isa::avx2 ? row_with_fma<T> : row_without_fma<T>;
    const auto body = [&](std::int64_t task, int) {
      const std::int64_t image = task / height;  // or plane
      const std::int64_t out = task * width * pixel;
      const T* residual = p.epilogue.residual ? static_cast<const T*>(tensors.residual) + out : nullptr;
      row({p, kernel_, static_cast<const T*>(tensors.src) + image * p.height * p.width * pixel,
           static_cast<T*>(tensors.dst) + out, residual, static_cast<int>(task % height), width},
          planes ? static_cast<int>(image % p.channels) : 0);
    };
    core::parallel_for(tasks(), threads, std::ref(body));
  }

  Problem problem_;
  Kernel kernel_;
};

class PortableAlgorithm final : public Algorithm {
 public:
  std::string_view name() const override { return "portable"; }
  bool exact() const override { return true; }
  int complexity() const override { return 0; }
  bool legal(const Problem&, const Kernel&, const Tiling& tiling, Isa) const override {
    return tiling.algorithm == name() && tiling.fields.empty();
  }
  std::vector<Candidate> every_candidate(const Problem& problem, const Kernel& geometry, Isa,
                                         int threads) const override {
    // Multiply-adds a second, measured on Zen 3: 3.5e9 channels-last with fused multiply-add.
    const double rate = core::cpu().isa >= Isa::avx2 ? 3e9 : 2e8;
    return {{Tiling{"portable", {}}, static_cast<double>(meeting_taps(problem, geometry)) / rate / threads}};
  }
  std::unique_ptr<Executor> prepare(const Problem& problem, const Kernel& kernel, const Tiling&, Isa,
                                    int) const override {
    return std::make_unique<Portable>(problem, kernel);
  }
};

}  // namespace

const Algorithm& portable_algorithm() {
  static const PortableAlgorithm algorithm;
  return algorithm;
}

}  // namespace replk::depthwise
