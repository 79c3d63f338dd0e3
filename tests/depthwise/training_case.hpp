// A problem with seeded weights, input and dy, whose channels are of very different size.
#pragma once
#include <cmath>
#include <cstdint>
#include <cstring>
#include <random>
#include <span>
#include <vector>

#include "depthwise/gradient/input_gradient.hpp"
#include "depthwise/gradient/weight_gradient.hpp"
#include "tests/depthwise/case.hpp"

namespace replk::depthwise {

/// The problem without what a gradient refuses.
inline Problem plain(Problem p) {
  p.epilogue = {.bias = p.epilogue.bias};
  return p;
}

/// dy's channels are scaled by 1e-3 to 1e3.
struct TrainingCase : Case {
  explicit TrainingCase(const Problem& p, std::uint64_t seed = 1, float mean = 0)
      : Case(plain(p), seed, mean), dy(p.output_type(), p.output_elements()) {
    std::mt19937_64 random(seed + 1);
    std::normal_distribution<float> normal;
    std::vector<float> factors;
    for (int c = 0; c < p.channels; c++)
      factors.push_back(std::pow(10.0f, static_cast<float>(static_cast<int>(random() % 7) - 3)));
    for_outputs([&](std::int64_t at, int c) { dy.set(at, (mean + normal(random)) * factors[c]); });
  }

  template <class Function>
  void for_outputs(const Function& function) const {
    const Strides s = problem.output_strides();
    for (std::int64_t n = 0; n < problem.batch; n++)
      for (int y = 0; y < problem.out_height(); y++)
        for (int x = 0; x < problem.out_width(); x++)
          for (int c = 0; c < problem.channels; c++)
            function(n * s.image + y * s.row + x * s.pixel + c * s.channel, c);
  }
  /// The whole of dx; what is not written stays a NaN.
  Storage input_gradient(const PlanOptions& options) const {
    return input_gradient(InputGradient(problem, weights, options));
  }
  Storage input_gradient(const InputGradient& gradient) const {
    Storage dx(problem.type, problem.input_elements());
    std::memset(dx.data(), 0xff, dx.bytes());
    gradient.run(dy.data(), dx.data(), {.batch = problem.batch});
    return dx;
  }
  /// Of each branch, and of the bias behind them.
  std::vector<std::vector<float>> weight_gradients(const PlanOptions& options) const {
    std::vector<std::vector<float>> all;
    std::vector<float*> pointers;
    for (const Branch& b : problem.branches)
      all.emplace_back(static_cast<std::size_t>(problem.channels) * b.taps(), NAN);
    all.emplace_back(problem.channels, NAN);
    for (auto& each : all) pointers.push_back(each.data());
    float* const dbias = pointers.back();
    pointers.pop_back();
    WeightGradient(problem, options).run({src.data(), dy.data(), pointers, dbias}, false);
    return all;
  }

  Storage dy;
};

}  // namespace replk::depthwise
