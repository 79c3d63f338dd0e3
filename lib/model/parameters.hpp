// A layer's weights as its steps want them.
#pragma once
#include <memory>

#include "core/memory.hpp"
#include "core/types.hpp"
#include "dense/dense.hpp"
#include "model/fold.hpp"
#include "model/graph.hpp"

namespace replk::model {

/// The folded weights of one layer, shared by the plans of all sizes; what is used depends on the operation.
struct Parameters {
  Precision precision = Precision::fp32;  // of linear: what it multiplies in
  std::shared_ptr<dense::LinearWeights> linear;
  dense::Quantiser quantiser;  // of an int8 layer's input
  std::shared_ptr<dense::ConvolutionWeights> convolution;
  FoldedDepthwise depthwise;
  core::Buffer<float> gain, offset;          // of layer_norm and grn
  std::shared_ptr<dense::LinearWeights> up;  // of squeeze_excite, behind `linear`
  std::size_t weight_bytes = 0;              // as fp32
};

/// From train, merged or fused form. precision, of a linear layer: any but int8.
Parameters load_parameters(const Layer& layer, Precision precision, TensorReader& reader, int threads);
/// From int8 form (stored_layer.hpp).
Parameters load_stored_parameters(const Layer& layer, TensorReader& reader);

}  // namespace replk::model
