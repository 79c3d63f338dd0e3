#include "model/operation/convolution.hpp"

#include <fmt/format.h>

#include "model/steps.hpp"
#include "model/stored_layer.hpp"

namespace replk::model {
namespace {

class ConvolutionStep : public Step {
 public:
  ConvolutionStep(const dense::Convolution& convolution, const Parameters& parameters,
                  const StepOptions& options)
      : plan_(convolution, parameters.convolution, dense_options(options)) {}
  std::size_t scratch_bytes() const override { return plan_.scratch_bytes(); }
  void run(const StepRun& run) const override { plan_.run(run.floats(), run.dst, run.scratch); }
  std::string shape() const override {
    const dense::Convolution& conv = plan_.convolution();
    return fmt::format("{}x{}x{}x{} to {}, {}x{}, stride {}", conv.batch, conv.height, conv.width,
                       conv.inputs, conv.outputs, conv.kernel_h, conv.kernel_w, conv.stride_h);
  }
  std::string choice() const override { return plan_.choice(); }

 private:
  dense::ConvolutionPlan plan_;
};

void set(Parameters& parameters, const Layer& layer, const Convolution& convolution,
         const FoldedDense& folded) {
  parameters.weight_bytes = (folded.weights.size() + folded.bias.size()) * sizeof(float);
  parameters.convolution = std::make_shared<dense::ConvolutionWeights>(
      layer.inputs, layer.outputs, convolution.kernel_h(), convolution.kernel_w(), view(folded.weights),
      view(folded.bias));
}

}  // namespace

double Convolution::macs(const Layer& layer, const Parameters&, const MapSize& in) const {
  return static_cast<double>(output_size(in).pixels()) * layer.outputs * layer.inputs * kernel_h() *
         kernel_w();
}

void Convolution::load(const Layer& layer, Parameters& parameters, TensorReader& reader, int threads) const {
  set(parameters, layer, *this, fold_convolution(*this, reader, threads));
}

void Convolution::load_stored(const Layer& layer, Parameters& parameters, TensorReader& reader) const {
  set(parameters, layer, *this, read_convolution(*this, reader));
}

std::unique_ptr<Step> Convolution::prepare(const Layer& layer, const Parameters& parameters,
                                           const MapSize& in, const StepPlace& place,
                                           const StepOptions& options) const {
  return std::make_unique<ConvolutionStep>(at(layer, in, place.rows), parameters, options);
}

dense::Convolution Convolution::at(const Layer& layer, const MapSize& in,
                                   const std::optional<RowPadding>& rows) const {
  const int above = rows ? rows->before : padding;
  return {in.batch, layer.inputs, layer.outputs, in.height, in.width, kernel_h(),      kernel_w(),
          stride,   stride,       above,         padding,   true,     layer.activation};
}

}  // namespace replk::model
