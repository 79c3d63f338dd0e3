// What the channels of every value are like before an image is seen: mean, deviation and range, from what
// batch and layer norms say, carried through layers that have none (Nagel et al., arXiv 1906.04721,
// section 4.2).
#pragma once
#include <cstdint>
#include <vector>

#include "model/fold.hpp"
#include "model/graph.hpp"

namespace replk::model {

/// Of each channel; empty where nothing is known.
struct ChannelStatistics {
  std::vector<double> mean, deviation;
  std::vector<double> low, high;  // what values lie between, but for a few

  bool known() const { return !mean.empty(); }
};

/// How many deviations from its mean a normally distributed channel is taken to reach.
constexpr double reach = 6;

/// From mean and deviation, as of a normal distribution.
ChannelStatistics normal_channels(std::vector<double> mean, std::vector<double> deviation);

/// Walks a graph in the order in which it runs. Channels are taken as independent of each other.
class StatisticsWalk {
 public:
  StatisticsWalk(const Graph& graph, TensorReader& reader) : reader_(reader), values_(graph.values.size()) {}

  /// Of a layer's input as its weights see it: behind the batch norm that it may have.
  ChannelStatistics input(const Layer& layer);
  /// Goes past a layer. folded: of linear layers, without the input's batch norm; otherwise null.
  void pass(const Layer& layer, const FoldedDense* folded);
  /// Whether the batch norms behind linear layers have the statistics that the layers' weights give: false
  /// where more than half of them do not, as in a network that was never trained. True where there is none.
  bool norms_are_the_networks() const { return agreeing_ >= differing_; }

 private:
  void judge(const ChannelStatistics& stated, const ChannelStatistics& found);
  ChannelStatistics of(const Layer& layer, const Depthwise& depthwise);
  ChannelStatistics of(const Layer& layer, const Linear& linear, const FoldedDense* folded);
  ChannelStatistics of(const Layer& layer, const Convolution& convolution);
  ChannelStatistics of(const LayerNorm& norm);
  ChannelStatistics of(const Layer& layer, const Grn& norm);
  ChannelStatistics of(const Layer& layer, const SqueezeExcite& gate);

  TensorReader& reader_;
  std::vector<ChannelStatistics> values_;
  int agreeing_ = 0, differing_ = 0;
};

}  // namespace replk::model
