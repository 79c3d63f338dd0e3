#include "model/network.hpp"

#include <algorithm>
#include <charconv>
#include <mutex>

#include "core/error.hpp"
#include "core/threads.hpp"
#include "model/identity.hpp"
#include "model/precision.hpp"
#include "model/quantise_network.hpp"
#include "model/size_plan.hpp"
#include "model/stored_layer.hpp"

namespace replk::model {
namespace {

using core::fail;
using core::Status;

constexpr std::size_t kept_sizes = 4;
constexpr int largest_side = 16384;
/// Keeps every tensor's number of elements far from overflow.
constexpr std::int64_t largest_pixels = std::int64_t{1} << 31;
constexpr int largest_classes = 1 << 20;

void check_size(const Architecture& architecture, std::int64_t batch, int height, int width) {
  const int smallest_side = architecture.smallest_side;
  if (height < smallest_side || height > largest_side)
    fail(Status::invalid_argument, "input height {} is outside {}..{}", height, smallest_side, largest_side);
  if (width < smallest_side || width > largest_side)
    fail(Status::invalid_argument, "input width {} is outside {}..{}", width, smallest_side, largest_side);
  const std::int64_t largest_batch = largest_pixels / (std::int64_t{height} * width);
  if (batch < 1 || batch > largest_batch)
    fail(Status::invalid_argument, "batch {} is outside 1..{} for {}x{}", batch, largest_batch, height,
         width);
}

int classes_of(const Architecture& architecture, const WeightSource& weights) {
  const std::string name = head_weight(architecture);
  const Shape* shape = weights.shape(name);
  if (shape == nullptr) {
    const std::string prefix = name.substr(0, name.find('.') + 1);
    for (const std::string& other : weights.names())
      if (other.starts_with(prefix))
        return architecture.classes;  // a head in parts: the missing key will be named
    return 0;
  }
  if (shape->size() != 2 || (*shape)[0] < 1 || (*shape)[0] > largest_classes)
    fail(Status::bad_file, "{}: '{}': shape {} found, [1..{}, {}] wanted", weights.describe(), name,
         to_string(*shape), largest_classes, architecture.channels.back());
  return static_cast<int>((*shape)[0]);
}

/// stages.2.0.gamma, and not the deeper gamma of a GRN.
bool is_layer_scale(const std::string& name) {
  return name.starts_with("stages.") && name.ends_with(".gamma") &&
         std::count(name.begin(), name.end(), '.') == 3;
}

double head_norm_epsilon_of(const WeightSource& weights, double usual) {
  const std::string text = weights.metadata(head_norm_epsilon_key);
  if (text.empty()) return usual;
  double epsilon = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), epsilon);
  if (error != std::errc() || end != text.data() + text.size() || !(epsilon > 0 && epsilon <= 1))
    fail(Status::bad_file, "{}: metadata: {} is {}; allowed: numbers above 0, at most 1", weights.describe(),
         head_norm_epsilon_key, text.substr(0, 64));
  return epsilon;
}

}  // namespace

Architecture as_stored(const Architecture& architecture, const WeightSource& weights) {
  const std::vector<std::string> names = weights.names();
  Architecture stored = architecture;
  stored.classes = classes_of(architecture, weights);
  stored.layer_scale = std::any_of(names.begin(), names.end(), is_layer_scale);
  stored.head_norm_epsilon = head_norm_epsilon_of(weights, architecture.head_norm_epsilon);
  return stored;
}

namespace {

/// int8 form has what the network reads and nothing else, stages' norms apart.
void check_int8_leftovers(const Graph& graph, const TensorReader& reader) {
  for (const std::string& name : reader.unread()) {
    const bool norm = std::any_of(graph.stages.begin(), graph.stages.end(), [&](const Stage& stage) {
      return !stage.norm.empty() && name.starts_with(stage.norm + ".");
    });
    if (!norm)
      fail(Status::bad_file, "{}: '{}' is not a tensor of this network in int8", reader.source().describe(),
           name);
  }
}

}  // namespace

std::string_view name(LayerKind kind) {
  constexpr std::string_view names[layer_kinds] = {
      "large depthwise", "small depthwise", "pointwise", "dense convolution", "norm", "other"};
  return names[static_cast<int>(kind)];
}

double Profile::seconds(LayerKind kind) const {
  double sum = 0;
  for (const LayerProfile& layer : layers) sum += layer.kind == kind ? layer.seconds : 0;
  return sum;
}

double Profile::macs(LayerKind kind) const {
  double sum = 0;
  for (const LayerProfile& layer : layers) sum += layer.kind == kind ? layer.macs : 0;
  return sum;
}

double Profile::seconds() const {
  double sum = 0;
  for (const LayerProfile& layer : layers) sum += layer.seconds;
  return sum;
}

struct Network::State {
  void load(const WeightSource& weights, const NetworkOptions& options, double begin);
  void load_feature_norms(TensorReader& reader);

  Architecture architecture;
  Graph graph;
  StepOptions options;
  Precision precision = Precision::fp32;
  std::vector<Parameters> parameters;  // of graph.layers
  FeatureNorms norms;
  std::size_t weight_bytes = 0;

  std::mutex build;                              // held while plans are made, so that a size is planned once
  std::mutex mutex;                              // guards plans
  std::vector<std::shared_ptr<SizePlan>> plans;  // used last first

  std::shared_ptr<SizePlan> find(const MapSize& size) {
    const std::lock_guard lock(mutex);
    const auto found = std::find_if(plans.begin(), plans.end(), [&](const auto& plan) {
      const MapSize& input = plan->input();
      return input.batch == size.batch && input.height == size.height && input.width == size.width;
    });
    if (found == plans.end()) return nullptr;
    std::rotate(plans.begin(), found, found + 1);
    return plans.front();
  }
  std::shared_ptr<SizePlan> plan_of(const MapSize& size) {
    if (auto plan = find(size)) return plan;
    const std::lock_guard building(build);
    if (auto plan = find(size)) return plan;
    {
      // The oldest goes before the new one is made, so that memory holds four at most.
      const std::lock_guard lock(mutex);
      if (plans.size() == kept_sizes) plans.pop_back();
    }
    auto plan = std::make_shared<SizePlan>(graph, parameters, size, options);
    const std::lock_guard lock(mutex);
    plans.insert(plans.begin(), plan);
    return plan;
  }
};

namespace {

/// What a layer norm does behind mean 0 and variance 1.
Affine read_layer_norm(const std::string& prefix, int channels, TensorReader& reader) {
  const core::Buffer<float> weight = reader.read(prefix + ".weight", {channels});
  const core::Buffer<float> bias = reader.read(prefix + ".bias", {channels});
  return {{weight.begin(), weight.end()}, {bias.begin(), bias.end()}};
}

}  // namespace

void Network::State::load_feature_norms(TensorReader& reader) {
  for (int s = 0; s < 4; ++s) {
    const Stage& stage = graph.stages[s];
    if (stage.norm.empty())
      fail(Status::invalid_argument,
           "model {}: norm_intermediate_features: this family has no norms of features", architecture.name);
    const int channels = architecture.channels[s];
    norms[s].over_channels = stage.over_channels;
    norms[s].affine = stage.over_channels ? read_layer_norm(stage.norm, channels, reader)
                                          : fold_batch_norm(stage.norm, channels, 1e-5, reader);
  }
}

/// Takes what the graph wants from a source in train, merged, fused or int8 form. begin: the fraction of all
/// loading that is done already.
void Network::State::load(const WeightSource& weights, const NetworkOptions& given, double begin) {
  TensorReader reader(weights);
  const std::vector<bool> narrow = narrow_layers(graph);
  const std::size_t layers = graph.layers.size();
  for (std::size_t i = 0; i < layers; ++i) {
    const double share = static_cast<double>(i) / static_cast<double>(layers);
    if (given.progress && !given.progress(begin + (1 - begin) * share))
      fail(Status::cancelled, "loading {} was cancelled", weights.describe());
    const Layer& layer = graph.layers[i];
    parameters.push_back(holds_int8(weights) ? load_stored_parameters(layer, reader)
                                             : load_parameters(layer, narrow[i] ? precision : Precision::fp32,
                                                               reader, options.threads));
    weight_bytes += parameters.back().weight_bytes;
  }
  if (given.norm_intermediate_features) load_feature_norms(reader);
  if (holds_int8(weights))
    check_int8_leftovers(graph, reader);
  else
    check_leftovers(architecture, reader);
}

Network::Network(const Architecture& architecture, const WeightSource& weights, const NetworkOptions& options)
    : state_(std::make_unique<State>()) {
  State& state = *state_;
  check_model_name(architecture, weights);
  state.architecture = as_stored(architecture, weights);
  state.graph = build_graph(state.architecture, state.architecture.classes);
  state.options = {core::effective_threads(options.threads), options.numerics};
  state.precision = network_precision(options.precision, weights);
  state.options.fixed_order = options.fixed_order || (state.precision == Precision::int8 &&
                                                      options.numerics == depthwise::Numerics::exact);
  if (state.precision == Precision::int8 && !holds_int8(weights)) {
    constexpr double quantising = 0.9;  // of the time
    QuantiseOptions quantise{state.options.threads, {}, {}};
    if (options.progress)
      quantise.progress = [&](double fraction) { return options.progress(quantising * fraction); };
    state.load(quantise_network(state.architecture, weights, quantise).tensors, options, quantising);
  } else {
    state.load(weights, options, 0);
  }
  if (options.progress) options.progress(1.0);
}

Network::~Network() = default;
Network::Network(Network&&) noexcept = default;
Network& Network::operator=(Network&&) noexcept = default;

const Architecture& Network::architecture() const {
  return state_->architecture;
}
int Network::threads() const {
  return state_->options.threads;
}
Precision Network::precision() const {
  return state_->precision;
}
int Network::classes() const {
  return state_->architecture.classes;
}
std::size_t Network::weight_bytes() const {
  return state_->weight_bytes;
}

const Graph& Network::graph() const {
  return state_->graph;
}
const std::vector<Parameters>& Network::parameters() const {
  return state_->parameters;
}

FeatureShape Network::feature_shape(int stage, int height, int width) const {
  if (stage < 0 || stage > 3) fail(Status::invalid_argument, "stage {} is outside 0..3", stage);
  check_size(state_->architecture, 1, height, width);
  const Graph& graph = state_->graph;
  std::vector<MapSize> sizes(graph.values.size(), MapSize{1, height, width});
  const int wanted = graph.stages[stage].value;
  for (const Layer& layer : graph.layers) sizes[layer.dst] = output_size(layer, sizes[layer.src]);
  return {graph.values[wanted].channels, sizes[wanted].height, sizes[wanted].width};
}

double Network::macs(int height, int width, LayerKind kind) const {
  check_size(state_->architecture, 1, height, width);
  const Graph& graph = state_->graph;
  std::vector<MapSize> sizes(graph.values.size(), MapSize{1, height, width});
  double sum = 0;
  for (std::size_t i = 0; i < graph.layers.size(); ++i) {
    const Layer& layer = graph.layers[i];
    const MapSize in = sizes[layer.src];
    sizes[layer.dst] = output_size(layer, in);
    if (kind_of(layer) == kind) sum += macs_of(layer, state_->parameters[i], in);
  }
  return sum;
}

void Network::prepare(std::int64_t batch, int height, int width) {
  check_size(state_->architecture, batch, height, width);
  state_->plan_of({batch, height, width});
}

void Network::run(const Input& input, const Output& output, const RunOptions& options) {
  check_size(state_->architecture, input.batch, input.height, input.width);
  if (input.pixels == nullptr) fail(Status::invalid_argument, "input pixels are null");
  if (output.logits != nullptr && state_->graph.logits < 0)
    fail(Status::invalid_argument, "model {}: its weights have no head ('{}'), so there are no logits",
         state_->architecture.name, head_weight(state_->architecture));
  const auto plan = state_->plan_of({input.batch, input.height, input.width});
  plan->run(state_->graph, input, output, state_->norms, options);
}

}  // namespace replk::model
