#include "model/calibrate.hpp"

#include <algorithm>
#include <cmath>
#include <functional>
#include <limits>

#include "core/error.hpp"
#include "model/graph.hpp"
#include "model/precision.hpp"

namespace replk::model {
namespace {

/// Rows kept of each layer: 170 MB of RepLKNet-31B.
constexpr int kept_rows = 512;
/// How many deviations from its mean a channel is taken to reach at least.
constexpr double seen_reach = 4;
constexpr double lowest_gelu = -0.1701;
/// How much further than seen a channel may go, over the root of the number of images: of a map's corners
/// each image has four.
constexpr double headroom = 0.3;

}  // namespace

Calibration::Calibration(Network& network, const WeightSource& source, int images)
    : network_(network),
      rows_an_image_(std::max(1, kept_rows / std::max(images, 1))),
      margin_(1 + headroom / std::sqrt(std::max(images, 1))) {
  const Graph& graph = network.graph();
  const std::vector<bool> narrow = narrow_layers(graph);
  TensorReader reader(source);
  for (std::size_t i = 0; i < graph.layers.size(); ++i) {
    if (!narrow[i]) continue;
    const Layer& layer = graph.layers[i];
    Seen& seen = seen_[static_cast<int>(i)];
    const auto channels = static_cast<std::size_t>(layer.inputs);
    const Linear& linear = *layer.as<Linear>();
    if (!linear.input_batch_norm.empty())
      seen.batch_norm =
          fold_batch_norm(linear.input_batch_norm, layer.inputs, linear.tensors.bn_epsilon, reader);
    seen.sum.assign(channels, 0);
    seen.squares.assign(channels, 0);
    seen.low.assign(channels, std::numeric_limits<double>::infinity());
    seen.high.assign(channels, -std::numeric_limits<double>::infinity());
  }
}

void Calibration::add(const Input& image) {
  std::vector<float> last(static_cast<std::size_t>(network_.classes()));
  const FeatureShape shape = network_.feature_shape(3, image.height, image.width);
  std::vector<float> map(static_cast<std::size_t>(shape.channels) * shape.height * shape.width);
  const std::function<void(int, const float*, std::int64_t)> observe =
      [this](int layer, const float* src, std::int64_t rows) { see(layer, src, rows); };
  Output output;
  output.features[3] = map.data();
  network_.run(image, output, {.observe = &observe});
}

void Calibration::see(int layer, const float* src, std::int64_t rows) {
  const auto found = seen_.find(layer);
  if (found == seen_.end()) return;
  Seen& seen = found->second;
  const std::size_t channels = seen.sum.size();
  const std::int64_t step = std::max<std::int64_t>(1, rows / rows_an_image_);
  std::int64_t kept = 0;
  for (std::int64_t row = 0; row < rows; ++row, src += channels) {
    // Another place of the map in every image.
    const bool keeps =
        row % step == seen.rows / std::max<std::int64_t>(rows, 1) % step && kept < rows_an_image_;
    kept += keeps;
    for (std::size_t c = 0; c < channels; ++c) {
      const double x = seen.batch_norm.scale.empty()
                           ? src[c]
                           : src[c] * seen.batch_norm.scale[c] + seen.batch_norm.offset[c];
      if (!std::isfinite(x))
        core::fail(core::Status::bad_file,
                   "layer {}: an input is {} while calibrating; check weights and images",
                   network_.graph().layers[static_cast<std::size_t>(layer)].name, x);
      seen.sum[c] += x;
      seen.squares[c] += x * x;
      seen.low[c] = std::min(seen.low[c], x);
      seen.high[c] = std::max(seen.high[c], x);
      if (keeps) seen.samples.push_back(static_cast<float>(x));
    }
  }
  seen.rows += rows;
}

std::map<int, InputKnowledge> Calibration::result() const {
  std::map<int, InputKnowledge> all;
  for (const auto& [layer, seen] : seen_) {
    if (seen.rows == 0) continue;
    InputKnowledge& knowledge = all[layer];
    const auto rows = static_cast<double>(seen.rows);
    for (std::size_t c = 0; c < seen.sum.size(); ++c) {
      const double mean = seen.sum[c] / rows;
      knowledge.channels.mean.push_back(mean);
      knowledge.channels.deviation.push_back(std::sqrt(std::max(0.0, seen.squares[c] / rows - mean * mean)));
    }
    knowledge.channels.low = seen.low;
    knowledge.channels.high = seen.high;
    for (std::size_t c = 0; c < seen.sum.size(); ++c) {
      // A few rows do not show how far a channel goes; but nothing passes an activation's lower end.
      const double mean = knowledge.channels.mean[c], spread = seen_reach * knowledge.channels.deviation[c];
      if (seen.low[c] < lowest_gelu)
        knowledge.channels.low[c] = std::min(mean - margin_ * (mean - seen.low[c]), mean - spread);
      knowledge.channels.high[c] = std::max(mean + margin_ * (seen.high[c] - mean), mean + spread);
    }
    knowledge.samples = seen.samples;
  }
  return all;
}

}  // namespace replk::model
