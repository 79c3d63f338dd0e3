#include "model/operation/norms.hpp"

#include "model/operation/map_step.hpp"

namespace replk::model {
namespace {

/// A norm, which may write its result as the next product's operand instead.
class NormStep : public MapStep {
 public:
  NormStep(const Norm& norm, const Layer& layer, const Parameters& parameters, const MapSize& in,
           const StepPlace& place, const StepOptions& options)
      : MapStep(layer, parameters, in, options),
        epsilon_(static_cast<float>(norm.epsilon)),
        activation_(layer.activation),
        place_(place) {}

 protected:
  /// Of a run; none where the result is fp32.
  elementwise::NarrowCopy copy(const StepRun& run) const {
    if (!run.copy) return {};
    const dense::Quantiser& quantiser = place_.next->quantiser;
    elementwise::NarrowCopy copy{run.copy, quantiser.scale.data(), quantiser.offset.data()};
    if (in_tiles(run.copy.type()))
      copy.order.emplace(map_.images * map_.pixels, map_.channels, run.copy.type());
    return copy;
  }
  float epsilon_;
  Activation activation_;

 private:
  StepPlace place_;
};

class LayerNormStep : public NormStep {
  using NormStep::NormStep;
  void run(const StepRun& run) const override {
    const elementwise::LayerNorm norm{map_.images * map_.pixels, map_.channels, epsilon_, activation_};
    const float *gain = parameters_.gain.data(), *offset = parameters_.offset.data();
    if (run.copy)
      elementwise::layer_norm(norm, gain, offset, run.floats(), copy(run), threads_);
    else
      elementwise::layer_norm(norm, gain, offset, run.floats(), run.dst, threads_);
  }
};

class GrnStep : public NormStep {
  using NormStep::NormStep;
  std::size_t scratch_bytes() const override { return map_.images * map_.channels * sizeof(float); }
  void run(const StepRun& run) const override {
    auto* scratch = static_cast<float*>(run.scratch);
    if (run.copy)
      elementwise::global_response_norm(map_, parameters_.gain.data(), epsilon_, run.floats(), copy(run),
                                        scratch, threads_);
    else
      elementwise::global_response_norm(map_, parameters_.gain.data(), nullptr, epsilon_, run.floats(),
                                        run.dst, scratch, threads_);
  }
};

}  // namespace

void Norm::load(const Layer&, Parameters& parameters, TensorReader& reader, int) const {
  parameters.gain = reader.read(tensors.weight, tensors.shape);
  if (!tensors.bias.empty()) parameters.offset = reader.read(tensors.bias, tensors.shape);
  parameters.weight_bytes += (parameters.gain.size() + parameters.offset.size()) * sizeof(float);
}

void Norm::load_stored(const Layer& layer, Parameters& parameters, TensorReader& reader) const {
  load(layer, parameters, reader, 1);  // names and types are the same in every form
}

std::unique_ptr<Step> LayerNorm::prepare(const Layer& layer, const Parameters& parameters, const MapSize& in,
                                         const StepPlace& place, const StepOptions& options) const {
  return std::make_unique<LayerNormStep>(*this, layer, parameters, in, place, options);
}

std::unique_ptr<Step> Grn::prepare(const Layer& layer, const Parameters& parameters, const MapSize& in,
                                   const StepPlace& place, const StepOptions& options) const {
  return std::make_unique<GrnStep>(*this, layer, parameters, in, place, options);
}

}  // namespace replk::model
