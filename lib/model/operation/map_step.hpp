// What elementwise computes, as a step: nothing to prepare but the size.
#pragma once
#include <fmt/format.h>

#include "elementwise/elementwise.hpp"
#include "model/steps.hpp"

namespace replk::model {

class MapStep : public Step {
 public:
  MapStep(const Layer& layer, const Parameters& parameters, const MapSize& in, const StepOptions& options)
      : parameters_(parameters),
        map_{in.batch, std::int64_t{in.height} * in.width, layer.inputs},
        threads_(options.threads) {}
  std::size_t scratch_bytes() const override { return 0; }
  std::string shape() const override {
    return fmt::format("{}x{}x{}", map_.images, map_.pixels, map_.channels);
  }
  std::string choice() const override { return "elementwise"; }

 protected:
  const Parameters& parameters_;
  elementwise::Map map_;
  int threads_;
};

}  // namespace replk::model
