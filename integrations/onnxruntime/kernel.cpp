#include "kernel.hpp"

#include <algorithm>
#include <chrono>
#include <mutex>
#include <thread>

namespace replk_ort {
namespace {

/// ONNX Runtime does not say how many threads a session has. So the first run counts those that come to work
/// within this time. Too few only cost speed: a plan's results do not depend on the threads that run it.
constexpr std::chrono::milliseconds patience{1};
constexpr int most_threads = 256;

int count_threads(const OrtApi& api, const OrtKernelContext* context) {
  struct Roll {
    std::mutex mutex;
    std::vector<std::thread::id> seen;
    std::chrono::steady_clock::time_point end = std::chrono::steady_clock::now() + patience;
  } roll;
  const int wanted = std::min(replk_default_threads(), most_threads);
  if (wanted <= 1) return 1;
  const auto come = [](void* at, std::size_t) {
    Roll& r = *static_cast<Roll*>(at);
    {
      const std::lock_guard lock(r.mutex);
      if (std::ranges::find(r.seen, std::this_thread::get_id()) != r.seen.end()) return;
      r.seen.push_back(std::this_thread::get_id());
    }
    // A thread that left at once would take the tasks of those that are still on their way.
    while (std::chrono::steady_clock::now() < r.end) std::this_thread::yield();
  };
  const auto tasks = static_cast<std::size_t>(wanted);
  check(api, api.KernelContext_ParallelFor(context, come, tasks, tasks, &roll));
  return std::max<int>(1, static_cast<int>(roll.seen.size()));
}

/// The library's pool of one run: the session's.
struct Pool {
  const OrtApi& api;
  const OrtKernelContext* context;
  OrtStatus* failed = nullptr;

  static void run(int count, replk_task task, void* data, void* user) {
    struct Work {
      replk_task task;
      void* data;
    } work{task, data};
    auto& self = *static_cast<Pool*>(user);
    const auto tasks = static_cast<std::size_t>(count);
    OrtStatus* status = self.api.KernelContext_ParallelFor(
        self.context,
        [](void* at, std::size_t i) {
          const auto& w = *static_cast<const Work*>(at);
          w.task(static_cast<int>(i), w.data);
        },
        tasks, tasks, &work);
    if (!status) return;
    if (self.failed) self.api.ReleaseStatus(self.failed);
    self.failed = status;
  }
};

std::size_t product(std::span<const std::int64_t> sizes) {
  std::size_t all = 1;
  for (const std::int64_t size : sizes) all *= static_cast<std::size_t>(size);
  return all;
}

template <std::size_t n>
std::array<std::int64_t, n> fixed(const Node& node, const char* name) {
  const std::vector<std::int64_t> values = node.integers(name);
  if (values.size() != n)
    throw Failure(std::string(name) + " has " + std::to_string(values.size()) +
                  " values; allowed: " + std::to_string(n));
  std::array<std::int64_t, n> result;
  std::ranges::copy(values, result.begin());
  return result;
}

void read_branches(const Node& node, std::size_t first, replk_layer::Description& d, std::int64_t outputs) {
  const std::vector<std::int64_t> dilations = node.integers("dilations");
  const std::size_t count = node.inputs() - first;
  if (dilations.size() != 2 * count)
    throw Failure("dilations has " + std::to_string(dilations.size()) +
                  " values; allowed: " + std::to_string(2 * count) + ", two a branch");
  for (std::size_t i = 0; i < count; i++) {
    std::vector<std::int64_t> sizes;
    d.weights.push_back(node.constant(first + i, "a weight", sizes));
    if (sizes.size() != 4 || sizes[1] != 1 || sizes[0] != outputs || std::max(sizes[2], sizes[3]) > 127)
      throw Failure("a weight must be [" + std::to_string(outputs) + ", 1, to 127, to 127]");
    for (const std::int64_t dilation : {dilations[2 * i], dilations[2 * i + 1]})
      if (dilation < 1 || dilation > 64)
        throw Failure("a dilation is " + std::to_string(dilation) + "; allowed: 1 to 64");
    d.branches.push_back({static_cast<std::int32_t>(sizes[2]), static_cast<std::int32_t>(sizes[3]),
                          static_cast<std::int32_t>(dilations[2 * i]),
                          static_cast<std::int32_t>(dilations[2 * i + 1])});
  }
}

/// A value a channel; empty where all are the neutral one.
std::vector<float> read_channels(const Node& node, std::size_t index, const char* name, std::int64_t outputs,
                                 float neutral) {
  std::vector<std::int64_t> sizes;
  std::vector<float> values = node.constant(index, name, sizes);
  if (sizes != std::vector{outputs})
    throw Failure(std::string(name) + " must be [" + std::to_string(outputs) + "]");
  if (std::ranges::all_of(values, [&](float value) { return value == neutral; })) values.clear();
  return values;
}

}  // namespace

replk_layer::Description read_description(const Node& node, Kind kind, replk_type type) {
  const Inputs at(kind);
  replk_layer::Description d;
  d.type = type;
  d.strides = fixed<2>(node, "strides");
  d.pads = fixed<4>(node, "pads");
  d.activation = replk_layer::read_activation(node.text("activation"));
  d.input = replk_layer::read_layout(node.text("input_layout"));
  d.output = replk_layer::read_layout(node.text("output_layout"));
  d.numerics = replk_layer::read_numerics(node.text("numerics"));
  const auto group = fixed<2>(node, "channels");  // of the input, and outputs of each
  if (group[0] < 1 || group[0] > INT32_MAX || group[1] < 1 || group[1] > 4)
    throw Failure("channels must be 1 or more, and 1 to 4 outputs of each");
  d.channels = static_cast<std::int32_t>(group[0]);
  d.channel_multiplier = static_cast<std::int32_t>(group[1]);
  const std::int64_t outputs = group[0] * group[1];
  d.residual = kind == Kind::add;
  read_branches(node, at.weight, d, outputs);
  d.bias = read_channels(node, at.bias, "bias", outputs, 0);
  d.scale = read_channels(node, at.scale, "scale", outputs, 1);
  return d;
}

Kernel::Kernel(const OrtApi& api, const OrtKernelInfo* info, Kind kind, replk_type type)
    : api_(api), at_(kind), layer_(read_description(Node(api, info), kind, type)) {
  const std::vector<std::int64_t> sizes = Node(api, info).known_sizes(at_.map);
  if (sizes.size() != 3 && sizes.size() != 4) return;
  const replk_layer::Map input = replk_layer::read_map(sizes, layer_.description().input);
  if (input.height < 1 || input.width < 1) return;
  layer_.output({input.batch, input.channels < 0 ? layer_.description().channels : input.channels,
                 input.height, input.width});
  layer_.plan(input, replk_default_threads());
}

int Kernel::threads(const OrtKernelContext* context) {
  int known = threads_.load();
  if (known) return known;
  const int counted = count_threads(api_, context);
  threads_.compare_exchange_strong(known, counted);  // of two first runs one counts
  return threads_.load();
}

void Kernel::compute(OrtKernelContext* context) {
  const replk_layer::Description& d = layer_.description();
  const OrtValue* x = nullptr;
  check(api_, api_.KernelContext_GetInput(context, at_.map, &x));
  if (!x) throw Failure("the input is missing");
  const std::vector<std::int64_t> sizes = sizes_of(api_, x);
  const replk_layer::Map input = replk_layer::read_map(sizes, d.input), output = layer_.output(input);
  const std::vector<std::int64_t> result = replk_layer::sizes_of(output, d.output, sizes.size());
  OrtValue* y = nullptr;
  check(api_, api_.KernelContext_GetOutput(context, 0, result.data(), result.size(), &y));
  const OrtValue* added = nullptr;
  if (d.residual) {
    check(api_, api_.KernelContext_GetInput(context, at_.residual, &added));
    if (!added || sizes_of(api_, added) != result) throw Failure("the residual has not the output's sizes");
  }
  if (product(result) == 0) return;

  void *src = nullptr, *dst = nullptr, *add = nullptr;
  check(api_, api_.GetTensorMutableData(const_cast<OrtValue*>(x), &src));
  check(api_, api_.GetTensorMutableData(y, &dst));
  if (added) check(api_, api_.GetTensorMutableData(const_cast<OrtValue*>(added), &add));
  const replk_layer::Layer::Plan plan = layer_.plan(input, threads(context));
  Pool pool{api_, context};
  replk_run_options options = replk_run_options_default();
  options.batch = input.batch;
  options.pool = Pool::run;
  options.user = &pool;
  const replk_status status = replk_depthwise_run_with(plan.get(), src, dst, add, &options);
  check(api_, pool.failed);
  if (status != REPLK_OK) throw replk_layer::Refused(replk_last_error());
}

}  // namespace replk_ort
