#include "depthwise/gradient/input_gradient.hpp"

#include <algorithm>

#include "core/error.hpp"
#include "core/threads.hpp"
#include "depthwise/workspace.hpp"

namespace replk::depthwise {
namespace {

/// Whether an image's parts must be computed apart from dx: where sums of theirs remain to be taken, or where
/// dx has no place for them (NCHW rows are without gaps).
bool needs_stage(const Problem& p, const Assembly& assembly) {
  const bool columns_apart = p.layout == Layout::nchw && p.stride_w > 1 && p.width > 1;
  return p.multiplier > 1 || columns_apart || assembly.overlap();
}

/// Where an image's results are summed, they and dy are floats, so that dx is rounded once.
bool needs_width(const Problem& p, const Assembly& assembly) {
  return p.type != DataType::f32 && (p.multiplier > 1 || assembly.overlap());
}

/// Strides of the pixels of a part within dx.
Strides apart(const Problem& p, const Problem& part) {
  const Strides at = p.input_strides();
  return {at.image, part.out_height() > 1 ? at.row * p.stride_h : at.row,
          part.out_width() > 1 ? at.pixel * p.stride_w : at.pixel, at.channel};
}

/// A part's problem as it is planned: from dy into dx or the workspace.
Problem placed(const Problem& p, const Part& part, const Assembly& assembly) {
  Problem q = part.problem;
  q.src_strides = p.dst_strides;
  if (needs_stage(p, assembly)) {
    q.batch = 1;
    if (needs_width(p, assembly)) {
      q.type = DataType::f32;
      q.src_strides.reset();
    }
    return q;
  }
  // A tensor without gaps is one without strides: so is the record of a forward pass that was tuned.
  if (const Strides strides = apart(p, q); strides != q.output_strides()) q.dst_strides = strides;
  return q;
}

/// Sizes are compared, and not what a layer adds to its sums, nor how its tensors lie.
void check_layer(const Problem& p, const Plan* layer) {
  if (!layer) return;
  const auto bare = [](Problem q) {
    q.batch = 1;
    q.epilogue = {};
    q.layout = Layout::nhwc;
    q.out_layout.reset();
    q.src_strides = q.dst_strides = std::nullopt;
    q.type = DataType::f32;
    return to_string(q);
  };
  if (bare(p) != bare(layer->problem()))
    core::fail(core::Status::invalid_argument, "layer is {}; allowed: a plan of {}",
               to_string(layer->problem()), to_string(p));
}

}  // namespace

std::vector<Problem> input_gradient_problems(const Problem& problem) {
  validate(problem);
  check_gradient(problem);
  const std::vector<Part> parts = turned_parts(problem);
  const Assembly assembly(problem, parts);
  std::vector<Problem> problems;
  for (const Part& part : parts) problems.push_back(placed(problem, part, assembly));
  return problems;
}

InputGradient::InputGradient(const Problem& problem, std::span<const std::span<const float>> weights,
                             const PlanOptions& options)
    : problem_((validate(problem), check_gradient(problem), problem)),
      parts_(turned_parts(problem)),
      assembly_(problem, parts_),
      staged_(needs_stage(problem, assembly_)),
      wide_(needs_width(problem, assembly_)),
      threads_(options.threads > 0 ? options.threads : core::default_threads()) {
  check_layer(problem, options.layer);
  (void)Weights(problem, weights, {});  // wrong sizes are said before anything is planned
  PlanOptions plan_options = options;
  plan_options.scale = {};
  for (std::size_t i = 0; i < parts_.size(); i++) {
    const Part& part = parts_[i];
    auto& [turned, pointers, kernels] = weights_.emplace_back();
    kernels.resize(part.branches.size());
    for (std::size_t b = 0; b < part.branches.size() && !part.whole; b++) {
      core::Buffer<float>& kernel =
          turned.emplace_back(static_cast<std::size_t>(problem.channels) * part.branches[b].branch.taps());
      pointers.push_back(kernel.data());
      kernels[b] = {kernel.data(), kernel.size()};
    }
    plan_options.turned = part.whole;
    plans_.push_back(std::make_unique<Plan>(placed(problem, part, assembly_), part_weights(i, weights),
                                            std::span<const float>(), plan_options));
    workspace_bytes_ = std::max(workspace_bytes_, plans_.back()->workspace_bytes());
  }
  if (!staged_) return;
  dy_offset_ = core::round_up(workspace_bytes_, core::alignment);
  const auto outputs = static_cast<std::size_t>(problem.output_values(1));
  results_offset_ = core::round_up(dy_offset_ + (wide_ ? outputs * sizeof(float) : 0), core::alignment);
  workspace_bytes_ = results_offset_ + static_cast<std::size_t>(assembly_.elements()) *
                                           (wide_ ? sizeof(float) : size_of(problem.type));
}

void InputGradient::set_weights(std::span<const std::span<const float>> weights) {
  (void)Weights(problem_, weights, {});
  for (std::size_t i = 0; i < parts_.size(); i++) plans_[i]->set_weights(part_weights(i, weights), {});
}

std::span<const std::span<const float>> InputGradient::part_weights(
    std::size_t part, std::span<const std::span<const float>> weights) {
  const Part& p = parts_[part];
  auto& [turned, pointers, kernels] = weights_[part];
  if (p.whole)
    for (std::size_t i = 0; i < kernels.size(); i++) kernels[i] = weights[p.branches[i].sources[0].branch];
  else
    turn_weights(problem_, p, weights, pointers, threads_);
  return kernels;
}

std::size_t InputGradient::prepared_bytes() const {
  std::size_t bytes = 0;
  for (const auto& plan : plans_) bytes += plan->prepared_bytes();
  for (const PartWeights& part : weights_)
    for (const core::Buffer<float>& kernel : part.turned) bytes += kernel.size() * sizeof(float);
  return bytes;
}

void InputGradient::run(const void* dy, void* dx, const PlanRun& options) const {
  if (!dy || !dx)
    core::fail(core::Status::invalid_argument, "{} is null; allowed: a tensor", dy ? "dx" : "dy");
  const std::int64_t batch = options.batch != 0 ? options.batch : problem_.batch;
  if (batch != problem_.batch) validate_batch(problem_, batch);
  thread_local KeptWorkspace kept;
  std::byte* const workspace = kept.given_or_kept(options.workspace, workspace_bytes_);
  const auto* from = static_cast<const std::byte*>(dy);
  auto* const to = static_cast<std::byte*>(dx);
  const std::size_t element = size_of(problem_.type);
  if (!staged_) return run_in_place(from, to, batch, workspace);
  for (std::int64_t n = 0; n < batch; n++)
    run_image(from + n * problem_.output_strides().image * element,
              to + n * problem_.input_strides().image * element, workspace);
}

void InputGradient::run_in_place(const std::byte* dy, std::byte* dx, std::int64_t batch,
                                 std::byte* workspace) const {
  const Strides at = problem_.input_strides();
  const std::size_t element = size_of(problem_.type);
  for (std::size_t i = 0; i < parts_.size(); i++) {
    const std::int64_t first = parts_[i].row * at.row + parts_[i].column * at.pixel;
    plans_[i]->run({dy, dx + first * element}, {.batch = batch, .workspace = workspace});
  }
  if (assembly_.has_holes()) assembly_.fill_holes(dx, batch, threads_);
}

/// By way of the workspace.
void InputGradient::run_image(const std::byte* dy, std::byte* dx, std::byte* workspace) const {
  if (wide_) {
    auto* const floats = reinterpret_cast<float*>(workspace + dy_offset_);
    assembly_.widen(dy, floats, threads_);
    dy = workspace + dy_offset_;
  }
  std::byte* const results = workspace + results_offset_;
  const std::size_t element = wide_ ? sizeof(float) : size_of(problem_.type);
  for (std::size_t i = 0; i < parts_.size(); i++)
    plans_[i]->run({dy, results + assembly_.offset(i) * element}, {.workspace = workspace});
  assembly_.sum(results, wide_, dx, threads_);
}

}  // namespace replk::depthwise
