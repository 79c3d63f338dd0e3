// From a checkpoint's tensors to the weights that are computed with: every BN, layer scale and offset folded
// in double, branches merged where one covers another, rounded once.
#pragma once
#include <cstdint>
#include <set>
#include <string>
#include <vector>

#include "core/memory.hpp"
#include "depthwise/problem/problem.hpp"
#include "model/graph.hpp"
#include "model/weight_source.hpp"

namespace replk::model {

/// Reads tensors by name and remembers which, so that the rest can be judged.
class TensorReader {
 public:
  explicit TensorReader(const WeightSource& source) : source_(source) {}

  const WeightSource& source() const { return source_; }
  bool has(const std::string& name) const { return !name.empty() && source_.shape(name) != nullptr; }
  /// Throws bad_file where it is missing, or its shape differs (sides of 1 at the end apart: a linear layer's
  /// [n, m] is a convolution's [n, m, 1, 1]).
  core::Buffer<float> read(const std::string& name, const Shape& shape);
  /// The same of I8 elements.
  std::vector<std::int8_t> read_int8(const std::string& name, const Shape& shape);
  /// Names in the source that were not read, BN's counters apart.
  std::vector<std::string> unread() const;

 private:
  void expect(const std::string& name, const Shape& shape);

  const WeightSource& source_;
  std::set<std::string> used_;
};

/// A linear or convolution layer: weights as in the checkpoint, [outputs][inputs][kernel_h][kernel_w].
struct FoldedDense {
  core::Buffer<float> weights;
  core::Buffer<float> bias;  // [outputs]; empty for none
};
FoldedDense fold_dense(const Layer& layer, TensorReader& reader, int threads);

/// A BN as it acts in evaluation: y = scale * x + offset, per channel.
struct Affine {
  std::vector<double> scale, offset;
};
Affine fold_batch_norm(const std::string& prefix, int channels, double epsilon, TensorReader& reader);

/// The branches that remain where one whose taps all lie within an earlier one's is added to that one.
std::vector<depthwise::Branch> merged_branches(const std::vector<depthwise::Branch>& branches);

struct FoldedDepthwise {
  std::vector<depthwise::Branch> branches;
  std::vector<core::Buffer<float>> weights;  // of each branch, [channels][kernel_h][kernel_w]
  core::Buffer<float> bias;                  // [channels]
};
FoldedDepthwise fold_depthwise(const Layer& layer, TensorReader& reader, int threads);

}  // namespace replk::model
