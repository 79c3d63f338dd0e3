// A network backwards, down to its input: what its effective receptive field is made of.
//
//   Gradient gradient(network, 1024, 1024);
//   gradient.of_centre(pixels, result);
#pragma once
#include <cstddef>
#include <memory>
#include <vector>

#include "core/memory.hpp"
#include "model/gradient_steps.hpp"
#include "model/network.hpp"

namespace replk::model {

/// Prepared for one image of one size. The network outlives it. One thread at a time: it holds the
/// activations.
class Gradient {
 public:
  /// Throws invalid_argument where the size is out of range, unsupported, naming the layer, where one has no
  /// gradient.
  Gradient(const Network& network, int height, int width);
  ~Gradient();

  /// Memory that of_centre() works in: activations that are kept, gradients, scratch. The transposed weights,
  /// as many bytes as the network's own, come on top.
  std::size_t bytes() const { return arena_bytes_; }

  /// pixels, gradient: [height][width][3]. The gradient, by the pixels, of the sum over channels of ReLU of
  /// the last stage's map (before any norm) at its central pixel [height / 2][width / 2]. This is what the
  /// RepLKNet repository's erf/visualize_erf.py takes (Luo et al., arXiv 1701.04128, without the ReLU).
  void of_centre(const float* pixels, float* gradient);

 private:
  /// Values in single assignment: what the graph computes in place has a value of its own here.
  struct PlannedLayer {
    Layer layer;
    bool accumulates = false;
    std::unique_ptr<GradientStep> step;
    int kept = -1;  // buffers in the arena
  };
  struct Value {
    MapSize size;
    int channels = 0;
    int activation = -1, gradient = -1;  // buffers in the arena; -1: the caller's, or none
    std::size_t bytes() const;
  };

  void number_values(const Graph& graph, const MapSize& input);
  void plan_gradients();
  void plan_memory();
  float* at(int buffer) { return reinterpret_cast<float*>(arena_.data() + offsets_[buffer]); }
  void seed(const Value& map);

  std::vector<PlannedLayer> layers_;
  std::vector<Value> values_;         // 0 is the input
  int map_ = 0;                       // the last stage's value
  int buffers_ = 0;                   // how many there are in the arena
  std::vector<std::size_t> offsets_;  // of buffers
  std::size_t scratch_offset_ = 0, arena_bytes_ = 0;
  core::Buffer<char> arena_;
};

}  // namespace replk::model
