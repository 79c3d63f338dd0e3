#include "model/operation/squeeze_excite.hpp"

#include <algorithm>

#include "core/memory.hpp"
#include "model/operation/map_step.hpp"

namespace replk::model {
namespace {

class SqueezeExciteStep : public MapStep {
 public:
  SqueezeExciteStep(const Layer& layer, int hidden, const Parameters& parameters, const MapSize& in,
                    const StepOptions& options)
      : MapStep(layer, parameters, in, options),
        hidden_(hidden),
        down_({in.batch, layer.inputs, hidden, true, Activation::relu}, parameters.linear,
              dense_options(options)),
        up_({in.batch, hidden, layer.inputs, true}, parameters.up, dense_options(options)) {}
  std::size_t scratch_bytes() const override {
    return mean_bytes() + hidden_bytes() + std::max(down_.scratch_bytes(), up_.scratch_bytes());
  }
  void run(const StepRun& run) const override {
    auto* mean = static_cast<float*>(run.scratch);  // and then the gate's logits
    auto* hidden = mean + mean_bytes() / sizeof(float);
    auto* inner = hidden + hidden_bytes() / sizeof(float);
    elementwise::global_mean(map_, run.floats(), mean, threads_);
    down_.run(mean, hidden, nullptr, inner);
    up_.run(hidden, mean, nullptr, inner);
    elementwise::gate(map_, mean, run.floats(), run.dst, threads_);
  }
  std::string choice() const override { return down_.choice(); }

 private:
  std::size_t mean_bytes() const {
    return core::round_up(map_.images * map_.channels * sizeof(float), core::alignment);
  }
  std::size_t hidden_bytes() const {
    return core::round_up(map_.images * hidden_ * sizeof(float), core::alignment);
  }
  int hidden_;
  dense::LinearPlan down_, up_;
};

std::shared_ptr<dense::LinearWeights> plain_linear(const ConvTensors& tensors, int inputs, int outputs,
                                                   TensorReader& reader) {
  const core::Buffer<float> weights = reader.read(tensors.weight, tensors.shape);
  const core::Buffer<float> bias = reader.read(tensors.bias, {outputs});
  return std::make_shared<dense::LinearWeights>(inputs, outputs, view(weights), view(bias));
}

}  // namespace

double SqueezeExcite::macs(const Layer& layer, const Parameters&, const MapSize& in) const {
  return 2.0 * static_cast<double>(in.batch) * layer.inputs * hidden;
}

void SqueezeExcite::load(const Layer& layer, Parameters& parameters, TensorReader& reader, int) const {
  parameters.linear = plain_linear(down, layer.inputs, hidden, reader);
  parameters.up = plain_linear(up, hidden, layer.inputs, reader);
  parameters.weight_bytes += (2 * std::size_t(layer.inputs) * hidden + layer.inputs + hidden) * sizeof(float);
}

void SqueezeExcite::load_stored(const Layer& layer, Parameters& parameters, TensorReader& reader) const {
  load(layer, parameters, reader, 1);  // names and types are the same in every form
}

std::unique_ptr<Step> SqueezeExcite::prepare(const Layer& layer, const Parameters& parameters,
                                             const MapSize& in, const StepPlace&,
                                             const StepOptions& options) const {
  return std::make_unique<SqueezeExciteStep>(layer, hidden, parameters, in, options);
}

}  // namespace replk::model
