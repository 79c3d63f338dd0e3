// How one linear layer becomes an int8 one: its input's quantiser, its weights in 8 bits, and what that
// costs.
#pragma once
#include <cstdint>
#include <vector>

#include "dense/dense.hpp"
#include "model/fold.hpp"
#include "model/statistics.hpp"

namespace replk::model {

/// A layer whose expected error is above this stays bf16: rms of the result's error over the rms of its
/// deviation. Eight bits both ways cost 0.01 to 0.02.
constexpr double int8_error_limit = 0.04;
/// What dense::LinearWeights sums in 32 bits.
constexpr int largest_int8_inputs = 1 << 16;

/// What is known of a layer's input, as its weights see it.
struct InputKnowledge {
  ChannelStatistics channels;
  /// Rows of it that were seen, [rows][inputs]; empty where only statistics are known.
  std::vector<float> samples;
};

/// y[o] = multiplier[o] * (sum over i of q[i] * weights[o][i]) + bias[o], q the quantised input: what the
/// zero points add is in the bias already.
struct Int8Linear {
  dense::Quantiser quantiser;        // of the input before its batch norm, [inputs]
  std::vector<std::int8_t> weights;  // [outputs][inputs], -127 to 127
  std::vector<float> multiplier, bias;
  double error = 0;  // expected, as int8_error_limit is meant
};

/// weights: without the input's batch norm, which is `batch_norm` (empty for none) and goes into the
/// quantiser. knowledge.channels is known.
Int8Linear quantise_linear(const FoldedDense& weights, const Affine& batch_norm,
                           const InputKnowledge& knowledge, int threads);

}  // namespace replk::model
