#include "depthwise/plan.hpp"

#include <algorithm>
#include <cstring>

#include "core/error.hpp"
#include "core/memory.hpp"
#include "core/overflow.hpp"
#include "core/threads.hpp"
#include "depthwise/choose/choice.hpp"
#include "depthwise/workspace.hpp"

namespace replk::depthwise {

Plan::Plan(const Problem& problem, std::span<const std::span<const float>> weights,
           std::span<const float> bias, const PlanOptions& options)
    : problem_(problem), turned_(options.turned) {
  if (options.threads < 0 || options.threads > 1024)
    core::fail(core::Status::invalid_argument, "threads is {}; allowed: 0 to 1024", options.threads);
  threads_ = options.threads > 0 ? options.threads : core::default_threads();
  Request request(problem, Pass::forward, plan_features(options), threads_);
  request.cold = options.cold;
  if (problem.epilogue.scale && options.scale.empty())
    core::fail(core::Status::invalid_argument,
               "scale is absent; allowed: one value a channel, since {} has one", to_string(problem));
  scale_.assign(options.scale.begin(), options.scale.end());
  (void)Weights(problem, weights, bias, scale_);  // wrong sizes are said before candidates are measured
  const bool free = !options.tiling && !options.algorithm;
  shares_weights_ = turned_ && options.layer && free && share(request, *options.layer);
  if (!shares_weights_) {
    Choice choice = choose(request, options);
    executor_ = choice.variant->prepare();
    tiling_ = choice.spelled(threads_);
    threads_ = choice.threads;
    source_ = std::move(choice.source);
    if (problem.numerics == Numerics::fast)
      rescue_ = std::make_shared<Rescue>(problem, request.kernel, executor_, turned_);
  }
  workspace_bytes_ = executor_->workspace_bytes(threads_);
  if (rescue_ && problem.epilogue.residual) {
    residual_offset_ = core::round_up(workspace_bytes_, core::alignment);
    Problem one = problem;
    one.batch = 1;
    workspace_bytes_ =
        residual_offset_ + static_cast<std::size_t>(one.output_elements()) * size_of(one.output_type());
  }
  if (!shares_weights_) set_weights(weights, bias);
}

/// Takes the layer's tiling and packed weights, if they serve.
bool Plan::share(const Request& request, const Plan& layer) {
  if (layer.turned_ || !turned(request.kernel, merged_geometry(layer.problem_))) return false;
  if (problem_.epilogue.residual || !layer.rescue_) return false;
  const std::optional<Choice> choice = read_choice(layer.tiling_.to_string(), request);
  if (choice) executor_ = choice->variant->prepare_turned(*layer.executor_);
  if (!executor_) return false;
  tiling_ = choice->spelled(threads_);
  threads_ = choice->threads;
  source_ = "layer";
  rescue_ = std::make_shared<Rescue>(problem_, request.kernel, layer.rescue_);
  times_set_ = layer.times_set_;
  times_seen_ = *times_set_;
  return true;
}

std::size_t Plan::prepared_bytes() const {
  return executor_->prepared_bytes() + (rescue_ ? rescue_->bytes() : 0);
}

void Plan::set_weights(std::span<const std::span<const float>> weights, std::span<const float> bias) {
  const Weights checked(problem_, weights, bias, scale_);
  if (shares_weights_) {
    if (times_seen_ == *times_set_)
      core::fail(core::Status::invalid_argument,
                 "weights are shared with the layer, where none have been set since; allowed: those of the "
                 "layer first");
    times_seen_ = *times_set_;
    return;
  }
  const core::OverflowWatch watch;
  times_seen_ = ++*times_set_;
  executor_->set_weights(turned_ ? checked.turned() : checked, threads_);
  if (rescue_) rescue_->set_weights(weights, bias, scale_, watch.seen());
}

void Plan::run(const Tensors& tensors, const PlanRun& options) const {
  if (!tensors.src || !tensors.dst)
    core::fail(core::Status::invalid_argument, "{} is null; allowed: a tensor", tensors.src ? "dst" : "src");
  if (problem_.epilogue.residual && !tensors.residual)
    core::fail(core::Status::invalid_argument, "residual is null; allowed: a tensor, since {} adds one",
               to_string(problem_));
  if (times_seen_ != *times_set_)
    core::fail(core::Status::invalid_argument,
               "weights of the layer have been set since those of its gradient; allowed: a run after both");
  const std::int64_t batch = options.batch != 0 ? options.batch : problem_.batch;
  if (batch != problem_.batch) validate_batch(problem_, batch);
  thread_local KeptWorkspace kept;
  void* const workspace = kept.given_or_kept(options.workspace, workspace_bytes_);
  const Run run{batch, workspace, std::min(core::effective_threads(threads_), threads_)};
  if (rescue_)
    run_rescued(tensors, run);
  else
    executor_->run(tensors, run);
}

/// Results overwrite a residual that is dst, and a rescue would find it gone: an image where one may come
/// keeps a copy in the workspace, and goes alone.
void Plan::run_rescued(const Tensors& tensors, const Run& run) const {
  const bool in_place = problem_.epilogue.residual && tensors.residual == tensors.dst;
  const auto part = [&](const Tensors& used, std::int64_t images) {
    const core::OverflowWatch watch;
    executor_->run(used, {images, run.workspace, run.threads});
    if (watch.seen() || rescue_->always()) rescue_->run(used, images, run.threads);
  };
  bool needed = false;
  for (std::int64_t i = 0; in_place && !needed && i < run.batch; i++)
    needed = rescue_->may_be_needed(image(tensors, i).src, run.threads);
  if (!needed) return part(tensors, run.batch);
  void* const copy = static_cast<std::byte*>(run.workspace) + residual_offset_;
  for (std::int64_t i = 0; i < run.batch; i++) {
    Tensors one = image(tensors, i);
    keep_residual(one, copy);
    one.residual = copy;
    part(one, 1);
  }
}

Tensors Plan::image(const Tensors& tensors, std::int64_t index) const {
  const auto in_size = static_cast<std::int64_t>(size_of(problem_.type)),
             out_size = static_cast<std::int64_t>(size_of(problem_.output_type()));
  const std::int64_t in = index * problem_.input_strides().image * in_size,
                     out = index * problem_.output_strides().image * out_size;
  const auto moved = [](const void* p, std::int64_t by) { return static_cast<const std::byte*>(p) + by; };
  return {moved(tensors.src, in), static_cast<std::byte*>(tensors.dst) + out,
          tensors.residual ? moved(tensors.residual, out) : nullptr};
}

/// Of one image, value by value: what lies between them is not read.
void Plan::keep_residual(const Tensors& tensors, void* copy) const {
  const Strides at = problem_.output_strides();
  const std::size_t bytes = size_of(problem_.output_type());
  for (int c = 0; c < problem_.channels; c++)
    for (int y = 0; y < problem_.out_height(); y++)
      for (int x = 0; x < problem_.out_width(); x++) {
        const std::size_t offset =
            static_cast<std::size_t>(c * at.channel + y * at.row + x * at.pixel) * bytes;
        std::memcpy(static_cast<std::byte*>(copy) + offset,
                    static_cast<const std::byte*>(tensors.residual) + offset, bytes);
      }
}

}  // namespace replk::depthwise
