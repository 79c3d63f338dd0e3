// A network that runs: folded and packed weights, and the plans of the input sizes in use.
//
//   const Architecture architecture = find_architecture("replknet-31b");
//   Network network(architecture, *open_safetensors("31b.safetensors"));
//   network.run({image, 1, 224, 224}, {.logits = logits});
#pragma once
#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "core/types.hpp"
#include "depthwise/problem/problem.hpp"
#include "model/architecture.hpp"
#include "model/weight_source.hpp"

namespace replk::model {

struct NetworkOptions {
  int threads = 0;  // 0: all (core::default_threads)
  depthwise::Numerics numerics = depthwise::Numerics::fast;
  /// What pointwise and dense layers over pixels multiply in; nothing: the weights' own (fp32, or int8 for a
  /// file of replk quantize). int8 of fp32 weights: quantised while loading, from the norms alone. int8
  /// weights in another precision: invalid_argument. What this machine lacks (bf16x3 without AMX):
  /// unsupported.
  std::optional<Precision> precision = {};
  /// Features pass through their stage's norm (RepLKNet's norm_intermediate_features; norm0 to norm3 of
  /// SLaK's, ConvNeXt's and UniRepLKNet's backbones); the file must hold it.
  bool norm_intermediate_features = false;
  /// fp32 dense layers sum in one order on every CPU, slowly (6 times); with exact numerics the network has
  /// the same bits everywhere. An int8 network of class exact does so unasked.
  bool fixed_order = false;
  /// Called while loading with the fraction done, from the loading thread; returning false cancels: the
  /// constructor throws Status::cancelled.
  std::function<bool(double fraction)> progress;
};

/// Normalised RGB images, [batch][height][width][3], any alignment. batch >= 1, height and width from the
/// architecture's smallest side (32; replknet-nano 16) to 16384.
struct Input {
  const float* pixels = nullptr;
  std::int64_t batch = 1;
  int height = 0, width = 0;
};

/// Where results go; null where not wanted. Elements: see Network::classes and Network::feature_shape.
struct Output {
  float* logits = nullptr;           // [batch][classes]
  std::array<float*, 4> features{};  // stage1..stage4, [batch][channels][height][width], before any norm
};

enum class LayerKind { large_depthwise, small_depthwise, pointwise, dense_conv, norm, other };
constexpr int layer_kinds = 6;
std::string_view name(LayerKind kind);

/// One layer of a profiled run. large_depthwise: a kernel side of 7 or more.
struct LayerProfile {
  std::string name;    // where it is in the network: stages.0.blocks.0.large_kernel
  std::string shape;   // what it computes
  std::string choice;  // what computes it: a tiling, an engine
  LayerKind kind = LayerKind::other;
  double seconds = 0;
  double macs = 0;  // multiply-adds of the folded layer, padding taps counted as the papers do
};

struct Profile {
  std::vector<LayerProfile> layers;
  double seconds(LayerKind kind) const;
  double macs(LayerKind kind) const;
  double seconds() const;
};

struct RunOptions {
  Profile* profile = nullptr;  // filled anew when given (this allocates)
  /// Called before each layer of an fp32 network with its index and its input, [rows][inputs].
  const std::function<void(int layer, const float* src, std::int64_t rows)>* observe = nullptr;
  const std::atomic<bool>* cancel = nullptr;  // looked at between layers: run throws Status::cancelled
};

struct FeatureShape {
  int channels = 0, height = 0, width = 0;
};

struct Graph;
struct Parameters;

/// The architecture as a source has it: its number of classes (0 without a head), whether there is layer
/// scale, and its last norm's epsilon where the metadata say another. Throws bad_file.
Architecture as_stored(const Architecture& architecture, const WeightSource& weights);

/// The metadata's name for the last norm's epsilon, which python/replk/convert writes.
constexpr const char* head_norm_epsilon_key = "head_norm_epsilon";

/// Thread-safe: any number of threads may run at once, each run with an arena of its own that is kept for the
/// next. Plans are made at the first run of a size (batch, height, width) and kept for the four sizes used
/// last; a later run of a kept size allocates nothing.
class Network {
 public:
  /// Reads, folds (in double) and packs. Accepts train, merged and fused checkpoints. Throws bad_file naming
  /// the key, the shape found and the shape wanted; also where the file names another model, or holds tensors
  /// that are this network's by name and would not be used (identity.hpp). Others are warned of. The number
  /// of classes is the file's.
  Network(const Architecture& architecture, const WeightSource& weights, const NetworkOptions& options = {});
  ~Network();
  Network(Network&&) noexcept;
  Network& operator=(Network&&) noexcept;

  const Architecture& architecture() const;
  int threads() const;
  Precision precision() const;
  /// 0: a backbone without a head, which gives features only.
  int classes() const;
  /// What stage 0..3 gives for an input of this size.
  FeatureShape feature_shape(int stage, int height, int width) const;
  /// Multiply-adds of one image of this size, folded, of the kinds asked (padding taps counted).
  double macs(int height, int width, LayerKind kind) const;
  /// Bytes of weights as fp32: what memory figures are measured against.
  std::size_t weight_bytes() const;

  /// What it is made of, for other ways to run it (gradient.hpp): parameters are those of graph.layers.
  const Graph& graph() const;
  const std::vector<Parameters>& parameters() const;

  /// Makes the plans of a size now rather than at its first run.
  void prepare(std::int64_t batch, int height, int width);
  /// Throws invalid_argument where a size is out of range or logits are asked of a backbone.
  void run(const Input& input, const Output& output, const RunOptions& options = {});

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace replk::model
