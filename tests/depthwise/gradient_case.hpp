// A problem with seeded tensors for its weight gradient, and where that goes.
#pragma once
#include <cmath>
#include <cstring>
#include <numeric>
#include <optional>
#include <vector>

#include "depthwise/gradient/weight_algorithm.hpp"
#include "depthwise/gradient/weight_gradient.hpp"
#include "depthwise/gradient/weight_reference.hpp"
#include "tests/depthwise/case.hpp"

namespace replk::depthwise {

/// Numbers of mean `mean` and deviation 1; dy's channels are then made very different in size.
struct GradientCase {
  explicit GradientCase(const Problem& p, std::uint64_t seed = 1, float mean = 0)
      : problem(p), src(p.type, p.input_elements()), dy(p.output_type(), p.output_elements()) {
    std::mt19937_64 random(seed);
    std::normal_distribution<float> normal;
    for (std::int64_t i = 0; i < src.elements(); i++) src.set(i, mean + normal(random));
    for (std::int64_t i = 0; i < dy.elements(); i++) dy.set(i, mean + normal(random));
    for (int c = 0; c < p.channels; c++) {
      const float factor = std::pow(10.0f, static_cast<float>(static_cast<int>(random() % 7) - 3));
      for_each_output([&](std::int64_t at, int channel) {
        if (channel == c) dy.set(at, dy.get(at) * factor);
      });
    }
  }

  template <class Body>  // void(element, channel)
  void for_each_output(const Body& body) const {
    const Problem& p = problem;
    const Strides s = p.output_strides();
    for (std::int64_t n = 0; n < p.batch; n++)
      for (int c = 0; c < p.channels; c++)
        for (int y = 0; y < p.out_height(); y++)
          for (int x = 0; x < p.out_width(); x++)
            body(n * s.image + y * s.row + x * s.pixel + c * s.channel, c);
  }

  Problem problem;
  Storage src, dy;
};

struct Gradients {
  /// NaNs at first: what is not written is seen.
  explicit Gradients(const Problem& p, float value = std::nanf("")) {
    for (const Branch& b : p.branches)
      dweights.emplace_back(static_cast<std::size_t>(p.channels) * b.taps(), value);
    dbias.assign(static_cast<std::size_t>(p.channels), value);
    for (auto& each : dweights) pointers.push_back(each.data());
  }
  WeightGradientTensors tensors(const GradientCase& c) {
    return {c.src.data(), c.dy.data(), pointers, dbias.data()};
  }
  bool same_bits(const Gradients& other) const {
    const auto same = [](const std::vector<float>& a, const std::vector<float>& b) {
      return std::memcmp(a.data(), b.data(), a.size() * sizeof(float)) == 0;
    };
    for (std::size_t i = 0; i < dweights.size(); i++)
      if (!same(dweights[i], other.dweights[i])) return false;
    return same(dbias, other.dbias);
  }
  double error(const GradientCase& c) const {
    std::vector<int> all(static_cast<std::size_t>(c.problem.channels));
    std::iota(all.begin(), all.end(), 0);
    return weight_error(c.problem, weight_reference(c.problem, c.src.data(), c.dy.data(), all), pointers,
                        dbias.data());
  }
  std::vector<std::vector<float>> dweights;
  std::vector<float> dbias;
  std::vector<float*> pointers;
};

/// A problem as its gradients want it: without an epilogue.
inline Problem plain(Problem p, Numerics numerics) {
  p.epilogue = {.bias = p.epilogue.bias};
  p.numerics = numerics;
  return p;
}

/// The instruction sets at hand that code is generated for.
inline std::vector<Isa> generated_isas() {
  std::vector<Isa> all;
  for (const Isa isa : {Isa::avx2, Isa::avx512})
    if (isa <= core::cpu().isa) all.push_back(isa);
  return all;
}

/// Some tiling of an algorithm, or none where it cannot do the problem.
inline std::optional<PlanOptions> some_tiling(std::string_view algorithm, const Problem& p, Isa isa,
                                              int threads, unsigned pick) {
  const std::vector<Candidate> all =
      find_weight_algorithm(algorithm)->candidates(p, merged_geometry(p), isa, threads);
  if (all.empty()) return std::nullopt;
  PlanOptions options;
  options.threads = threads;
  options.isa = isa;
  options.tiling = all[pick % all.size()].tiling;
  return options;
}

}  // namespace replk::depthwise
