// One layer's weights in an int8 file: which tensors hold them, written and read back.
//
// Names are those of train form where a tensor keeps its meaning. A pointwise or dense layer NAME has
//   int8   NAME.weight I8 [outputs, inputs], NAME.multiplier and NAME.bias F32 [outputs],
//          NAME.input_scale and NAME.input_offset F32 [inputs]
//   bf16   NAME.weight BF16, NAME.bias
//   fp32   NAME.weight F32, NAME.bias
// a depthwise layer NAME.branchN.weight (merged as it is computed), a k x k convolution NAME.weight, both F16
// with a power of two F32 for each channel, NAME.scale or NAME.branchN.scale, and NAME.bias. Norms and
// squeeze-excite keep their own.
#pragma once
#include <string>

#include "core/types.hpp"
#include "model/fold.hpp"
#include "model/quantise.hpp"
#include "model/stored_tensors.hpp"

namespace replk::model {

/// Whether a source is in int8 form: its metadata say `precision: int8`.
bool holds_int8(const WeightSource& source);

void store_int8(const Linear& linear, const Int8Linear& weights, StoredTensors& tensors);
/// precision: fp32 or bf16.
void store_linear(const Linear& linear, const FoldedDense& folded, Precision precision,
                  StoredTensors& tensors);
void store_convolution(const Convolution& convolution, const FoldedDense& folded, StoredTensors& tensors);
void store_depthwise(const Layer& layer, const FoldedDepthwise& folded, StoredTensors& tensors);

// Of a source in int8 form. All throw bad_file naming the tensor that is missing, of another shape or type,
// or out of range.

/// fp32, bf16 or int8: by the weight's type.
Precision stored_precision(const Linear& linear, const TensorReader& reader);
Int8Linear read_int8(const Linear& linear, TensorReader& reader);
FoldedDense read_linear(const Linear& linear, TensorReader& reader);
FoldedDense read_convolution(const Convolution& convolution, TensorReader& reader);
FoldedDepthwise read_depthwise(const Layer& layer, const Depthwise& depthwise, TensorReader& reader);

}  // namespace replk::model
