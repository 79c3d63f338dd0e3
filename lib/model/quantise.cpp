#include "model/quantise.hpp"

#include <algorithm>
#include <cmath>

#include "core/threads.hpp"

namespace replk::model {
namespace {

constexpr double steps = 255;
/// A channel is never quantised finer than the widest one over this: a dead one has no range at all.
constexpr double finest = 1024;

/// How a channel is quantised: q = round(x / step + zero) in 0..255; and what that does to what is seen of
/// it.
struct ChannelGrid {
  double step = 1, zero = 0;
  double noise = 0;  // mean square of what quantising changes
  double shift = 0;  // mean of it
};

/// To the nearest whole number, ties to even, of anything below 2^51.
double round_even(double x) {
  constexpr double whole = 0x1.8p52;
  return x + whole - whole;
}

/// The mean square of an error that is uniform over a step.
double rounding_noise(double step) {
  return step * step / 12;
}

double quantised(double x, const ChannelGrid& grid) {
  const double q = round_even(std::clamp(x / grid.step + grid.zero, 0.0, steps));
  return (q - grid.zero) * grid.step;
}

class InputGrid {
 public:
  InputGrid(const InputKnowledge& knowledge, int threads)
      : knowledge_(knowledge), inputs_(knowledge.channels.mean.size()), threads_(threads) {
    for (std::size_t c = 0; c < inputs_; ++c)
      widest_ = std::max(widest_, knowledge.channels.high[c] - knowledge.channels.low[c]);
    if (!(widest_ > 0)) widest_ = 1;
  }

  /// share 1: every channel has steps of its own, as fine as its range allows. 0: all have those of the
  /// widest, which leaves the weights as they are. Between: the difference is shared with the weights
  /// (SmoothQuant, arXiv 2211.10438).
  std::vector<ChannelGrid> with(double share) const {
    std::vector<ChannelGrid> grids(inputs_);
    core::parallel_for(static_cast<std::int64_t>(inputs_), threads_,
                       [&](std::int64_t c, int) { grids[c] = channel(static_cast<std::size_t>(c), share); });
    return grids;
  }

 private:
  ChannelGrid on_range(double low, double high, double share) const {
    const double range = std::max(high - low, widest_ / finest);
    ChannelGrid grid;
    grid.step = range / steps * std::pow(widest_ / range, 1 - share);
    // A lower end of 0 is one that no value passes; else what is left over is shared between both ends.
    const double spare = low == 0 ? 0 : (steps - range / grid.step) / 2;
    grid.zero = spare - low / grid.step;
    grid.noise = rounding_noise(grid.step);
    return grid;
  }
  /// No range is cut, though a smaller one has the smaller mean square of errors: a few pixels at a map's
  /// border go further than all others, and the largest error of a map is theirs.
  ChannelGrid channel(std::size_t c, double share) const {
    const ChannelStatistics& channels = knowledge_.channels;
    const ChannelGrid grid = on_range(channels.low[c], channels.high[c], share);
    return knowledge_.samples.empty() ? grid : seen(c, grid);
  }
  ChannelGrid seen(std::size_t c, ChannelGrid grid) const {
    double squares = 0, sum = 0;
    const std::size_t rows = knowledge_.samples.size() / inputs_;
    for (std::size_t row = 0; row < rows; ++row) {
      const double x = knowledge_.samples[row * inputs_ + c], change = quantised(x, grid) - x;
      sum += change;
      squares += change * change;
    }
    grid.shift = sum / static_cast<double>(rows);
    grid.noise = squares / static_cast<double>(rows);
    return grid;
  }

  const InputKnowledge& knowledge_;
  std::size_t inputs_;
  int threads_;
  double widest_ = 0;
};

/// The weights of one output on a grid: values, multiplier, what follows for the bias, and for the error.
struct Row {
  float multiplier = 1;
  double bias = 0, error = 0, signal = 0;
};
Row quantise_row(const float* weights, const std::vector<ChannelGrid>& grids,
                 const ChannelStatistics& channels, std::int8_t* values) {
  const std::size_t inputs = grids.size();
  double largest = 0;
  for (std::size_t i = 0; i < inputs; ++i) largest = std::max(largest, std::abs(weights[i] * grids[i].step));
  Row row;
  // The smallest normal number: below it a quotient could be infinite.
  if (largest / 127 >= 0x1p-126) row.multiplier = static_cast<float>(largest / 127);
  for (std::size_t i = 0; i < inputs; ++i) {
    const ChannelGrid& grid = grids[i];
    const double value = round_even(std::clamp(weights[i] * grid.step / row.multiplier, -127.0, 127.0));
    values[i] = static_cast<std::int8_t>(value);
    const double used = row.multiplier * value / grid.step, change = used - weights[i];
    const double mean = channels.mean[i], deviation = channels.deviation[i];
    // What the zero points add, and the mean of the error.
    row.bias -= row.multiplier * value * grid.zero + change * mean + used * grid.shift;
    row.error +=
        used * used * (grid.noise - grid.shift * grid.shift) + change * change * deviation * deviation;
    row.signal += static_cast<double>(weights[i]) * weights[i] * deviation * deviation;
  }
  return row;
}

}  // namespace

Int8Linear quantise_linear(const FoldedDense& folded, const Affine& batch_norm,
                           const InputKnowledge& knowledge, int threads) {
  const std::size_t inputs = knowledge.channels.mean.size(), outputs = folded.bias.size();
  const InputGrid grid(knowledge, threads);
  Int8Linear best;
  for (double share : {1.0, 0.75, 0.5}) {
    const std::vector<ChannelGrid> grids = grid.with(share);
    Int8Linear made;
    made.weights.resize(outputs * inputs);
    made.multiplier.resize(outputs);
    made.bias.resize(outputs);
    std::vector<Row> rows(outputs);
    core::parallel_for(static_cast<std::int64_t>(outputs), threads, [&](std::int64_t o, int) {
      rows[o] =
          quantise_row(&folded.weights[o * inputs], grids, knowledge.channels, &made.weights[o * inputs]);
      made.multiplier[o] = rows[o].multiplier;
      made.bias[o] = static_cast<float>(folded.bias[o] + rows[o].bias);
    });
    double error = 0, signal = 0;
    for (const Row& row : rows) {
      error += row.error;
      signal += row.signal;
    }
    made.error = signal > 0 ? std::sqrt(error / signal) : 0;
    for (std::size_t i = 0; i < inputs; ++i) {
      const double scale = batch_norm.scale.empty() ? 1 : batch_norm.scale[i];
      const double offset = batch_norm.scale.empty() ? 0 : batch_norm.offset[i];
      made.quantiser.scale.push_back(static_cast<float>(scale / grids[i].step));
      made.quantiser.offset.push_back(static_cast<float>(offset / grids[i].step + grids[i].zero));
    }
    if (best.weights.empty() || made.error < best.error) best = std::move(made);
  }
  return best;
}

}  // namespace replk::model
