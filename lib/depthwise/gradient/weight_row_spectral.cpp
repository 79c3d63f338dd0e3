#include "depthwise/gradient/weight_row_spectral.hpp"

#include <cstdint>

#include "depthwise/gradient/weight_spectral_executor.hpp"
#include "depthwise/row_spectral/row_spectral.hpp"

namespace replk::depthwise {
namespace {

/// Of the forward pass's time: rows of the input and of dy go in, rows of taps come out.
constexpr double over_forward = 1.25;

class RowSpectralWeights final : public WeightAlgorithm {
 public:
  std::string_view name() const override { return "row-spectral"; }
  bool exact() const override { return false; }
  int complexity() const override { return 5; }

  bool legal(const Problem& problem, const Kernel& geometry, const Tiling& tiling, Isa isa) const override {
    if (isa == Isa::portable || problem.numerics == Numerics::exact || tiling.algorithm != name())
      return false;
    const auto parameters = row_spectral_algorithm().parameters(tiling);
    return parameters && WeightSpectralGeometry(problem, geometry, *parameters, isa).feasible();
  }

  std::unique_ptr<WeightExecutor> prepare(const Problem& problem, const Kernel& kernel, const Tiling& tiling,
                                          Isa isa) const override {
    return std::make_unique<WeightSpectralExecutor>(
        WeightSpectralGeometry(problem, kernel, *row_spectral_algorithm().parameters(tiling), isa), kernel);
  }

 private:
  /// The forward pass has the same transforms and the same products, and so the same tilings worth trying, in
  /// much the same order.
  std::vector<Candidate> every_candidate(const Problem& problem, const Kernel& geometry, Isa isa,
                                         int threads) const override {
    std::vector<Candidate> found;
    for (Candidate& each :
         row_spectral_algorithm().candidates({problem, Pass::forward, features_of(isa), threads}, SIZE_MAX)) {
      if (!legal(problem, geometry, each.tiling, isa)) continue;
      each.predicted_seconds *= over_forward;
      found.push_back(std::move(each));
    }
    return found;
  }
};

}  // namespace

const WeightAlgorithm& row_spectral_weight_algorithm() {
  static const RowSpectralWeights instance;
  return instance;
}

}  // namespace replk::depthwise
