#include "model/operation/weightless.hpp"

#include "model/operation/map_step.hpp"

namespace replk::model {
namespace {

class ClampStep : public MapStep {
  using MapStep::MapStep;
  void run(const StepRun& run) const override {
    elementwise::clamp_above(map_.images * map_.pixels * map_.channels, 6.0f, run.floats(), run.dst,
                             threads_);
  }
};

class MeanStep : public MapStep {
  using MapStep::MapStep;
  void run(const StepRun& run) const override {
    elementwise::global_mean(map_, run.floats(), run.dst, threads_);
  }
};

}  // namespace

std::unique_ptr<Step> Clamp::prepare(const Layer& layer, const Parameters& parameters, const MapSize& in,
                                     const StepPlace&, const StepOptions& options) const {
  return std::make_unique<ClampStep>(layer, parameters, in, options);
}

std::unique_ptr<Step> Mean::prepare(const Layer& layer, const Parameters& parameters, const MapSize& in,
                                    const StepPlace&, const StepOptions& options) const {
  return std::make_unique<MeanStep>(layer, parameters, in, options);
}

}  // namespace replk::model
