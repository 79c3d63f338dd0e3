// A depthwise layer as a graph holds it, for runtimes that know the map's size only when they run: constants,
// and a plan for each size. Uses the C API alone.
#pragma once
#include <replk/replk.h>

#include <array>
#include <cstdint>
#include <list>
#include <memory>
#include <mutex>
#include <span>
#include <stdexcept>
#include <string>
#include <vector>

namespace replk_layer {

/// What the library refused: its one line.
struct Refused : std::runtime_error {
  using std::runtime_error::runtime_error;
};

/// Everything but the map's size. Pads as ONNX has them: top, left, bottom, right.
struct Description {
  std::int32_t channels = 0, channel_multiplier = 1;
  std::vector<replk_branch> branches;
  std::vector<std::vector<float>> weights;  // of each branch, [channels * multiplier][kernel_h][kernel_w]
  std::vector<float> bias, scale;           // [channels * multiplier], or empty: none
  std::array<std::int64_t, 2> strides{1, 1};
  std::array<std::int64_t, 4> pads{};
  replk_activation activation = REPLK_NONE;
  replk_layout input = REPLK_NCHW, output = REPLK_NCHW;
  replk_type type = REPLK_F32;
  replk_numerics numerics = REPLK_FAST;
  bool residual = false;
};

struct Map {
  std::int64_t batch = 0, channels = 0, height = 0, width = 0;
  bool operator==(const Map&) const = default;
};

/// A map's sizes out of a tensor's. Rank 3 has no height: it is 1.
Map read_map(std::span<const std::int64_t> sizes, replk_layout layout);
/// The tensor's sizes of a map.
std::vector<std::int64_t> sizes_of(const Map& map, replk_layout layout, std::size_t rank);

/// The words that graphs use: "none", "relu", "gelu", "silu", "hardswish"; "NCHW", "NHWC"; "fast", "exact".
/// Refused names what is allowed.
replk_activation read_activation(const std::string& word);
replk_layout read_layout(const std::string& word);
replk_numerics read_numerics(const std::string& word);

/// One output side; 0 or less where the kernel does not fit.
std::int64_t output_side(std::int64_t input, std::int64_t before, std::int64_t after, std::int64_t span,
                         std::int64_t stride);

/// Thread-safe.
class Layer {
 public:
  using Plan = std::shared_ptr<const replk_depthwise>;
  explicit Layer(Description description);
  const Description& description() const { return description_; }
  /// The output of a map; Refused where its channels are others or the kernel does not fit.
  Map output(const Map& input) const;
  /// The plan of this size for so many threads, made where there is none. The 16 sizes used last are kept.
  Plan plan(const Map& input, int threads);

 private:
  Plan make(const Map& input, int threads) const;
  struct Entry {
    std::int64_t height, width;
    int threads;
    Plan plan;
  };
  static constexpr std::size_t capacity = 16;
  Description description_;
  std::array<std::int64_t, 2> spans_{};  // rows and columns that the largest branch reaches over
  std::mutex mutex_;
  std::list<Entry> plans_;  // the one used last first
};

}  // namespace replk_layer
