#include "measure/gradient.hpp"

#include <algorithm>
#include <functional>
#include <limits>
#include <numeric>
#include <random>
#include <utility>

#include "core/error.hpp"
#include "core/threads.hpp"
#include "depthwise/gradient/input_gradient.hpp"
#include "depthwise/gradient/input_reference.hpp"
#include "depthwise/gradient/weight_gradient.hpp"
#include "depthwise/gradient/weight_reference.hpp"
#include "depthwise/plan.hpp"
#include "measure/data.hpp"
#include "measure/onednn/tensor_memory.hpp"
#include "measure/peak.hpp"

namespace replk::bench {
namespace {

using depthwise::Problem;

constexpr double checked_macs = 1e8;        // a second of the references, about
constexpr double most_weight_error = 2e-6;  // of the channel's largest, in class fast

/// The tensors of a step. A residual is like dy, and data has one for the problem that asks for it.
struct Step {
  Step(const Problem& p, std::uint64_t seed)
      : data(with_residual(p), seed),
        dx(tensor_memory(static_cast<std::size_t>(p.input_elements()) * size_of(p.type))),
        dbias(static_cast<std::size_t>(p.channels)) {
    for (const core::Buffer<float>& w : data.weights)
      pointers.push_back(dweights.emplace_back(w.size(), true).data());
  }
  static Problem with_residual(Problem p) {
    p.epilogue.residual = true;
    return p;
  }
  const void* dy() const { return data.residual.data(); }

  Data data;
  core::Buffer<std::byte> dx;
  std::vector<core::Buffer<float>> dweights;
  std::vector<float*> pointers;
  core::Buffer<float> dbias;
};

/// Input channels: the first, the last and some between, as many as their reference takes about a second for.
std::vector<int> checked_channels(const Problem& p, std::uint64_t seed) {
  double macs = 0;
  for (const depthwise::Branch& b : p.branches) macs += b.taps();
  macs *= 1.0 * p.out_height() * p.out_width() * p.multiplier * static_cast<double>(p.batch);
  const int all = p.input_channels();
  const int count = static_cast<int>(std::clamp(checked_macs / macs, 2.0, 1e6));
  std::vector<int> channels(all);
  std::iota(channels.begin(), channels.end(), 0);
  if (count >= all) return channels;
  std::mt19937_64 random(seed);
  std::shuffle(channels.begin() + 1, channels.end() - 1, random);
  std::swap(channels[1], channels.back());
  channels.resize(count);
  return channels;
}

void check(const Problem& p, const Step& step, const GradientOptions& options, GradientRow& row) {
  const std::vector<int> channels = checked_channels(p, options.seed);
  row.checked_channels = static_cast<int>(channels.size());
  std::vector<std::pair<std::int64_t, int>> planes;
  std::vector<int> outputs;
  for (const int c : channels) {
    planes.emplace_back(0, c);
    if (p.batch > 1) planes.emplace_back(p.batch - 1, c);
    for (int j = 0; j < p.multiplier; j++) outputs.push_back(c * p.multiplier + j);
  }
  const auto weights = step.data.weight_spans();
  const depthwise::Accuracy input =
      input_error(p, input_reference(p, weights, step.dy(), planes), step.dx.data());
  row.input_gradient_error = input.max_relative_error;
  row.weight_gradient_error = weight_error(p, weight_reference(p, step.data.src.data(), step.dy(), outputs),
                                           step.pointers, step.dbias.data());
  double products = p.multiplier;
  for (const depthwise::Branch& b : p.branches) products += b.taps() * p.multiplier;
  const auto outside = [&](const char* which, double error, double of_allowed) {
    if (!(of_allowed <= 1))
      core::fail(core::Status::internal,
                 "{}: the gradient of the {} is off by {:.2g} of its channel's largest, {:.2g} times what is "
                 "allowed; not timed",
                 row.shape, which, error, of_allowed);
  };
  outside("input", row.input_gradient_error,
          input.max_of_allowed / (p.numerics != depthwise::Numerics::exact ? 1 : products));
  outside("weights", row.weight_gradient_error, row.weight_gradient_error / most_weight_error);
}

}  // namespace

GradientRow measure_gradient(const Problem& p, const GradientOptions& options) {
  validate(p);
  depthwise::check_gradient(p);
  GradientRow row;
  row.shape = to_string(p);
  row.threads = core::effective_threads(options.threads);
  Step step(p, options.seed);
  const auto weights = step.data.weight_spans();
  depthwise::PlanOptions plan_options;
  plan_options.threads = row.threads;
  depthwise::Plan forward(p, weights, step.data.bias_span(), plan_options);
  const depthwise::WeightGradient weight(p, plan_options);
  plan_options.layer = &forward;
  depthwise::InputGradient input(p, weights, plan_options);
  row.forward_tiling = forward.tiling().to_string();
  row.weight_gradient_tiling = weight.tiling().to_string();
  for (const auto& plan : input.plans()) row.input_gradient_tilings.push_back(plan->tiling().to_string());
  row.prepared_bytes = input.prepared_bytes() + weight.prepared_bytes();
  row.workspace_bytes = std::max(input.workspace_bytes(), weight.workspace_bytes());
  core::Buffer<std::byte> workspace = tensor_memory(std::max(row.workspace_bytes, forward.workspace_bytes()));
  const depthwise::PlanRun run{.batch = 0, .workspace = workspace.data()};

  const depthwise::WeightGradientTensors tensors{step.data.src.data(), step.dy(), step.pointers,
                                                 p.epilogue.bias ? step.dbias.data() : nullptr};
  const std::vector<std::function<void()>> runs{
      [&] {
        forward.run({step.data.src.data(), step.data.dst.data()}, run);
      },
      [&] { input.run(step.dy(), step.dx.data(), run); }, [&] { weight.run(tensors, false, run); },
      [&] { forward.set_weights(weights, step.data.bias_span()), input.set_weights(weights); }};
  weight.run({tensors.src, tensors.dy, tensors.dweights, step.dbias.data()}, false, run);
  runs[1]();
  if (options.spoil)
    options.spoil({{reinterpret_cast<float*>(step.dx.data()), static_cast<std::size_t>(p.input_elements())},
                   {step.dweights[0].begin(), step.dweights[0].end()},
                   {step.dbias.begin(), step.dbias.end()}});
  check(p, step, options, row);

  row.peak_gflops = peak_gflops(Precision::fp32, row.threads);
  RaceOptions race_options = options.race;
  race_options.slow = std::numeric_limits<double>::infinity();  // they are no rivals
  const std::vector<Times> times = race(runs, race_options);
  row.forward_ms = 1e3 * times[0].median();
  row.input_gradient_ms = 1e3 * times[1].median();
  row.weight_gradient_ms = 1e3 * times[2].median();
  row.set_weights_ms = 1e3 * times[3].median();
  return row;
}

}  // namespace replk::bench
