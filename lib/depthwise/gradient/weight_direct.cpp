#include "depthwise/gradient/weight_direct.hpp"

#include <algorithm>

#include "depthwise/gradient/weight_constants.hpp"
#include "depthwise/gradient/weight_direct_executor.hpp"
#include "jit/x64/fingerprint.hpp"

namespace replk::depthwise {
namespace {

constexpr double hertz = 2.7e9;
constexpr double over_ideal = 1.3;              // of the multiply-add pipes' time
constexpr double line_cycles = 6, packing = 6;  // of a vector of the tensors, and more where it is copied
constexpr int spare_registers = 5;              // for dy and the input

class DirectWeights final : public WeightAlgorithm {
 public:
  std::string_view name() const override { return "direct"; }
  bool exact() const override { return false; }
  int complexity() const override { return 2; }
  std::span<const std::int32_t> constants() const override { return jit::values_of<WeightConstants>; }

  bool legal(const Problem& problem, const Kernel& geometry, const Tiling& tiling, Isa isa) const override {
    if (isa == Isa::portable || problem.numerics == Numerics::exact || tiling.algorithm != name())
      return false;
    const auto parameters = WeightDirectParameters::parse(tiling);
    return parameters && WeightDirectGeometry(problem, geometry, *parameters, isa).feasible();
  }

  std::unique_ptr<WeightExecutor> prepare(const Problem& problem, const Kernel& kernel, const Tiling& tiling,
                                          Isa isa) const override {
    return std::make_unique<WeightDirectExecutor>(
        WeightDirectGeometry(problem, kernel, *WeightDirectParameters::parse(tiling), isa), kernel);
  }

 private:
  std::vector<Candidate> every_candidate(const Problem& problem, const Kernel& geometry, Isa isa,
                                         int threads) const override {
    std::vector<Candidate> found;
    if (isa == Isa::portable || problem.numerics == Numerics::exact) return found;
    const int taps = horizontal_lags(geometry).count, rows = vertical_lags(geometry).count;
    const int most = vector_registers(isa) - spare_registers;
    if (taps < 1 || rows < 1) return found;
    const int groups = (taps + most - 1) / most;
    WeightDirectParameters p;
    p.columns = (taps + groups - 1) / groups;
    for (p.rows = 1; p.rows <= std::min(rows, most / p.columns); p.rows++)
      for (const bool packed : {false, true}) {
        p.packed = packed;
        const WeightDirectGeometry g(problem, geometry, p, isa);
        if (g.feasible()) found.push_back({p.tiling(), predicted_seconds(g, threads)});
      }
    return found;
  }

  /// More rows of taps at once are better: an output is then loaded for more of them.
  static double predicted_seconds(const WeightDirectGeometry& g, int threads) {
    const double outputs = static_cast<double>(g.vertical.output) * g.horizontal.output,
                 inputs = static_cast<double>(g.vertical.input) * g.horizontal.input;
    const double products = outputs * g.rows.count * g.columns.count;
    const double cycles = products / 2 * (over_ideal + 0.3 / g.parameters.rows) +
                          (outputs + inputs) * (line_cycles + (g.packs(true) ? packing : 0));
    const double blocks =
        static_cast<double>(g.problem.batch) * ((g.problem.channels + g.lanes - 1) / g.lanes);
    return cycles * blocks / hertz / threads;
  }
};

}  // namespace

const WeightAlgorithm& direct_weight_algorithm() {
  static const DirectWeights instance;
  return instance;
}

}  // namespace replk::depthwise
