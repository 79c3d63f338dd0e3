// A problem with seeded weights and tensors, and what tests ask of its results.
#pragma once
#include <algorithm>
#include <cmath>
#include <cstring>
#include <random>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "core/error.hpp"
#include "core/half.hpp"
#include "core/memory.hpp"
#include "depthwise/plan.hpp"
#include "depthwise/problem/reference.hpp"

namespace replk::depthwise {

/// A tensor's storage in any type.
class Storage {
 public:
  Storage(DataType type, std::int64_t elements)
      : type_(type), bytes_(static_cast<std::size_t>(elements) * size_of(type), true) {}
  void set(std::int64_t i, float value) {
    core::with_type(type_, [&](auto type) { write(i, core::from_float<decltype(type)>(value)); });
  }
  float get(std::int64_t i) const {
    float value = 0;
    core::with_type(type_, [&](auto type) { value = core::to_float(read<decltype(type)>(i)); });
    return value;
  }
  /// Nothing was written over what memset(0xff) left, which in a type that has them is a NaN.
  bool untouched(std::int64_t i) const {
    const std::uint8_t* const first = bytes_.data() + i * static_cast<std::int64_t>(size_of(type_));
    return std::all_of(first, first + size_of(type_), [](std::uint8_t byte) { return byte == 0xff; });
  }
  void* data() { return bytes_.data(); }
  const void* data() const { return bytes_.data(); }
  std::size_t bytes() const { return bytes_.size(); }
  std::int64_t elements() const { return static_cast<std::int64_t>(bytes_.size() / size_of(type_)); }

 private:
  template <class T>
  void write(std::int64_t i, T value) {
    std::memcpy(bytes_.data() + i * sizeof(T), &value, sizeof(T));
  }
  template <class T>
  T read(std::int64_t i) const {
    T value;
    std::memcpy(&value, bytes_.data() + i * sizeof(T), sizeof(T));
    return value;
  }
  DataType type_;
  core::Buffer<std::uint8_t> bytes_;
};

/// Weights of mean 0 and variance 1/taps, inputs of mean `mean` and deviation 1, so that results stay near 1;
/// of u8, tens of times as much around 100.
struct Case {
  explicit Case(const Problem& p, std::uint64_t seed = 1, float mean = 0)
      : problem(p),
        src(p.type, p.input_elements()),
        residual(p.output_type(), p.epilogue.residual ? p.output_elements() : 0) {
    std::mt19937_64 random(seed);
    std::normal_distribution<float> normal;
    for (const Branch& b : p.branches) {
      auto& w = branch_weights.emplace_back(static_cast<std::size_t>(p.channels) * b.taps());
      for (float& value : w)
        value =
            level(p.output_type()) / level(p.type) * normal(random) / std::sqrt(static_cast<float>(b.taps()));
    }
    for (const auto& w : branch_weights) weights.emplace_back(w);
    bias.resize(p.channels);
    for (float& value : bias) value = level(p.output_type()) * normal(random);
    for (std::int64_t i = 0; i < src.elements(); i++)
      src.set(i, middle(p.type) + level(p.type) * (mean + normal(random)));
    for (std::int64_t i = 0; i < residual.elements(); i++)
      residual.set(i, middle(p.output_type()) + level(p.output_type()) * normal(random));
    if (p.epilogue.scale) scale.resize(p.channels);
    for (float& value : scale) value = normal(random);
  }
  explicit Case(std::string_view shape, std::uint64_t seed = 1, float mean = 0)
      : Case(parse(shape), seed, mean) {}
  Case(const Case&) = delete;

  static float level(DataType type) { return type == DataType::u8 ? 40.0f : 1.0f; }
  static float middle(DataType type) { return type == DataType::u8 ? 100.0f : 0.0f; }

  Tensors tensors(Storage& dst) const {
    return {src.data(), dst.data(), problem.epilogue.residual ? residual.data() : nullptr};
  }
  Storage run(PlanOptions options) const {
    options.scale = scale;
    const Plan plan(problem, weights, bias, options);
    Storage dst(problem.output_type(), problem.output_elements());
    std::memset(dst.data(), 0xff, dst.bytes());  // an output that is not written stays a NaN, or 255
    plan.run(tensors(dst));
    return dst;
  }

  Problem problem;
  std::vector<std::vector<float>> branch_weights;
  std::vector<std::span<const float>> weights;
  std::vector<float> bias, scale;
  Storage src, residual;
};

/// Elements whose bits differ; NaNs are all the same.
inline std::int64_t differing(const Storage& a, const Storage& b) {
  if (a.bytes() != b.bytes()) return INT64_MAX;
  if (std::memcmp(a.data(), b.data(), a.bytes()) == 0) return 0;
  std::int64_t count = 0;
  for (std::int64_t i = 0; i < a.elements(); i++) {
    const float x = a.get(i), y = b.get(i);
    count += std::isnan(x)
                 ? !std::isnan(y)
                 : std::isnan(y) || std::bit_cast<std::uint32_t>(x) != std::bit_cast<std::uint32_t>(y);
  }
  return count;
}

/// A plan's request, made for this instruction set.
inline Request request_of(const Problem& problem, Isa isa = core::cpu().isa, int threads = 1) {
  return {problem, Pass::forward, features_of(isa), threads};
}
inline bool legal(const Request& request, const Tiling& tiling) {
  const Algorithm* algorithm = find_algorithm(tiling.algorithm);
  return algorithm && algorithm->read(request, tiling);
}

/// Whether one of the algorithm's candidates has independent tasks for so many threads in every phase. (Which
/// candidate is predicted to be the best depends on the machine's caches: that is no test's business.)
inline bool some_candidate_has_work(const Algorithm& algorithm, const Request& request) {
  const std::vector<Candidate> candidates = algorithm.candidates(request);
  const int threads = request.threads;
  return std::any_of(candidates.begin(), candidates.end(), [&](const Candidate& each) {
    const std::vector<Phase> phases = algorithm.read(request, each.tiling)->prepare()->phases(threads);
    return !phases.empty() && std::all_of(phases.begin(), phases.end(),
                                          [&](const Phase& phase) { return phase.tasks >= threads; });
  });
}

inline PlanOptions portable_options(int threads = 1) {
  PlanOptions options;
  options.threads = threads;
  options.algorithm = "portable";
  return options;
}

/// A seeded small problem: channel tails, even kernels, kernels larger than the map, strides, dilation, any
/// padding, several branches, every epilogue. Valid, and light enough for a double reference.
inline Problem random_problem(std::uint64_t seed, int most_height = 17, int most_width = 29) {
  std::mt19937_64 random(seed);
  const auto between = [&](int low, int high) { return low + static_cast<int>(random() % (high - low + 1)); };
  while (true) {
    Problem p;
    p.batch = between(1, 4) == 1 ? 2 : 1;
    p.channels = between(1, 3) == 1 ? 8 * between(1, 5) : between(1, 41);
    p.height = between(1, most_height);
    p.width = between(1, most_width);
    p.branches.clear();
    const int parity = between(0, 3) == 0 ? 0 : 1;
    for (int i = between(1, 5) == 1 ? between(2, 3) : 1; i > 0; i--) {
      Branch b{2 * between(0, 6) + parity, 2 * between(0, 6) + parity, 1, 1};
      b.kernel_h = std::max(b.kernel_h, 1);
      b.kernel_w = std::max(b.kernel_w, 1);
      if (between(1, 4) == 1) b.dilation_h = b.dilation_w = between(2, 3);
      p.branches.push_back(b);
    }
    set_default_padding(p);
    const auto both = [&](int standard) {
      const int pad = between(0, standard + 2);
      return Padding{pad, pad};
    };
    if (between(1, 4) == 1) p.pad_h = both(p.pad_h.before);
    if (between(1, 4) == 1) p.pad_w = both(p.pad_w.before);
    if (between(1, 3) == 1) p.stride_h = between(1, 2), p.stride_w = between(1, 2);
    p.layout = between(1, 4) == 1 ? Layout::nchw : Layout::nhwc;
    p.type = between(1, 3) > 1 ? DataType::f32 : between(1, 2) == 1 ? DataType::bf16 : DataType::f16;
    p.numerics = Numerics::exact;
    p.epilogue = {between(1, 4) > 1, static_cast<Activation>(between(0, 2)), between(0, 1) == 1};
    try {
      validate(p);
      return p;
    } catch (const core::Error&) {
      continue;  // another draw
    }
  }
}

/// What a problem may have beside what random_problem() draws, one kind a bit.
enum Feature : unsigned {
  sided_padding = 1,   // for each side on its own, less than 0 and more than the kernel too
  long_stride = 2,     // to 16
  line_kernel = 4,     // 1 x k and k x 1, to 127
  mixed_layout = 8,    // of input and output
  gaps = 16,           // between pixels, rows, channels and images
  more_epilogue = 32,  // SiLU, hard-swish, a scale
  multiplied = 64,     // 2 to 4 outputs a channel
  two_types = 128      // of input and output, u8 among them
};

/// Strides with gaps of a tensor of so many channels, rows and columns.
inline Strides gapped(std::mt19937_64& random, Layout layout, int channels, int height, int width) {
  const auto more = [&](std::int64_t least) {
    return least + (random() % 3 ? static_cast<std::int64_t>(random() % 7) : 0);
  };
  Strides s;
  if (layout == Layout::nhwc) {
    s.channel = 1;
    s.pixel = more(channels);
    s.row = more(s.pixel * width);
    s.image = more(s.row * height);
  } else {
    s.pixel = 1;
    s.row = more(width);
    s.channel = more(s.row * height);
    s.image = more(s.channel * channels);
  }
  return s;
}

/// random_problem() with some of these.
inline Problem random_problem_with(unsigned features, std::uint64_t seed, int most_height = 17,
                                   int most_width = 29) {
  std::mt19937_64 random(seed * 1000003 + features);
  const auto between = [&](int low, int high) { return low + static_cast<int>(random() % (high - low + 1)); };
  for (std::uint64_t next = seed;; next += 1000) {
    Problem p = random_problem(next, most_height, most_width);
    if (features & line_kernel) {
      const int taps = between(1, 3) == 1 ? between(64, 127) : between(1, 63);
      p.branches = {between(0, 1) ? Branch{taps, 1, 1, 1} : Branch{1, taps, 1, 1}};
      set_default_padding(p);
    }
    if (features & sided_padding) {
      const auto side = [&](int extent) { return between(-4, between(1, 4) == 1 ? extent + 9 : extent); };
      p.pad_h = {side(p.branches[0].extent_h()), side(p.branches[0].extent_h())};
      p.pad_w = {side(p.branches[0].extent_w()), side(p.branches[0].extent_w())};
    }
    if (features & multiplied) {
      p.multiplier = between(1, 4);
      p.channels *= p.multiplier;
    }
    if (features & long_stride) p.stride_h = between(1, 16), p.stride_w = between(1, 16);
    if (features & mixed_layout && between(0, 3))
      p.out_layout = p.layout == Layout::nhwc ? Layout::nchw : Layout::nhwc;
    if (features & more_epilogue) {
      p.epilogue.scale = between(0, 1) == 1;
      if (between(0, 3)) p.epilogue.activation = between(0, 1) ? Activation::silu : Activation::hard_swish;
    }
    if (features & two_types) {
      p.type = static_cast<DataType>(between(0, 3));
      p.out_type = static_cast<DataType>(between(0, 3));
      if (p.out_type == p.type) p.out_type.reset();
    }
    try {
      validate(p);
      if (features & gaps && between(0, 3))
        p.src_strides = gapped(random, p.layout, p.input_channels(), p.height, p.width);
      if (features & gaps && between(0, 3))
        p.dst_strides = gapped(random, p.output_layout(), p.channels, p.out_height(), p.out_width());
      validate(p);
      return p;
    } catch (const core::Error&) {
      continue;  // another draw
    }
  }
}

}  // namespace replk::depthwise
