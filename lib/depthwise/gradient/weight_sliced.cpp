#include "depthwise/gradient/weight_sliced.hpp"

#include <algorithm>
#include <utility>

#include "core/memory.hpp"
#include "core/overflow.hpp"
#include "core/threads.hpp"
#include "depthwise/gradient/weight_constants.hpp"

namespace replk::depthwise {
namespace {

constexpr int wanted_tasks = weight_constants.wanted_tasks, least_pieces = weight_constants.least_pieces,
              few_groups = weight_constants.few_groups;

}  // namespace

SlicedWeightExecutor::SlicedWeightExecutor(const Problem& problem, WeightScatter scatter,
                                           std::int64_t tile_floats, int blocks, int lanes)
    : problem_(problem),
      scatter_(std::move(scatter)),
      blocks_(blocks),
      lanes_(lanes),
      tile_floats_(tile_floats) {}

int SlicedWeightExecutor::groups() const {
  const int whole = problem_.channels / lanes_;
  return (whole + blocks_ - 1) / blocks_ + (problem_.channels % lanes_ > 0);
}

SlicedWeightExecutor::Group SlicedWeightExecutor::group(int index) const {
  const int whole = problem_.channels / lanes_, block = std::min(index * blocks_, whole);
  if (block == whole) return {block * lanes_, problem_.channels % lanes_, 1, false};
  const int blocks = std::min(blocks_, whole - block);
  return {block * lanes_, blocks * lanes_, blocks, true};
}

int SlicedWeightExecutor::most_slices() const {
  return std::max(1, (wanted_tasks + groups() - 1) / groups());
}

int SlicedWeightExecutor::slices(std::int64_t batch) const {
  const std::int64_t least = groups() < few_groups ? 1 : least_pieces;
  return static_cast<int>(std::clamp<std::int64_t>(pieces(batch) / least, 1, most_slices()));
}

SlicedWeightExecutor::Sums SlicedWeightExecutor::sums(char* result) const {
  auto* const bias = reinterpret_cast<double*>(result);
  return {reinterpret_cast<float*>(bias + blocks_ * lanes_), bias};
}

int& SlicedWeightExecutor::overflowed(char* result) const {
  return *reinterpret_cast<int*>(sums(result).tiles + tile_floats_ * blocks_);
}

std::size_t SlicedWeightExecutor::result_bytes() const {
  return core::round_up(sizeof(double) * blocks_ * lanes_ +
                            sizeof(float) * static_cast<std::size_t>(tile_floats_) * blocks_ + sizeof(int),
                        core::alignment);
}

std::size_t SlicedWeightExecutor::thread_bytes() const {
  return core::round_up(std::max(scratch_bytes(), scatter_.bytes()), core::alignment) + core::scratch_gap;
}

std::size_t SlicedWeightExecutor::workspace_bytes(int threads) const {
  const auto all = static_cast<std::size_t>(threads);
  const std::size_t results = most_slices() == 1 ? all : static_cast<std::size_t>(groups()) * most_slices();
  return all * thread_bytes() + results * result_bytes();
}

void SlicedWeightExecutor::run(const WeightGradientTensors& tensors, const WeightRun& run) const {
  const int slices = this->slices(run.batch);
  const std::int64_t pieces = this->pieces(run.batch);
  char* const memory = static_cast<char*>(run.workspace);
  const std::size_t thread_bytes = this->thread_bytes(), result_bytes = this->result_bytes();
  const auto scratch = [&](int thread) { return memory + thread_bytes * static_cast<std::size_t>(thread); };
  const auto result = [&](std::int64_t index) {
    return scratch(run.threads) + result_bytes * static_cast<std::size_t>(index);
  };
  const bool shared = most_slices() > 1;
  const auto task = [&](std::int64_t index, int thread) {
    const Group group = this->group(static_cast<int>(index / slices));
    const std::int64_t slice = index % slices;
    char* const own = result(shared ? index : thread);
    std::fill_n(sums(own).bias, blocks_ * lanes_, 0.0);
    const core::OverflowWatch watch;
    sum(tensors, group, pieces * slice / slices, pieces * (slice + 1) / slices, scratch(thread), sums(own));
    overflowed(own) = watch.seen();
    if (slices == 1) write(tensors, run, group, own, 1, scratch(thread));
  };
  core::parallel_for(std::int64_t{groups()} * slices, run.threads, task);
  if (slices == 1) return;
  const auto together = [&](std::int64_t index, int thread) {
    write(tensors, run, group(static_cast<int>(index)), result(index * slices), slices, scratch(thread));
  };
  core::parallel_for(groups(), run.threads, together);
}

void SlicedWeightExecutor::write(const WeightGradientTensors& tensors, const WeightRun& run,
                                 const Group& group, char* results, int slices, void* scratch) const {
  const auto next = static_cast<std::int64_t>(result_bytes());
  bool any_overflowed = false;
  for (int slice = 0; slice < slices; slice++) any_overflowed |= overflowed(results + slice * next) != 0;
  for (int b = 0; b < group.blocks; b++) {
    WeightScatter::Sums s;
    s.tile = sums(results).tiles + b * tile_floats_;
    s.bias = sums(results).bias + b * lanes_;
    s.slices = slices;
    s.next_tile = next / static_cast<std::int64_t>(sizeof(float));
    s.next_bias = next / static_cast<std::int64_t>(sizeof(double));
    s.overflowed = any_overflowed;
    s.first = group.channel + b * lanes_;
    s.count = std::min(lanes_, group.channels - b * lanes_);
    scatter_.write(s, tensors, run, scratch);
  }
}

std::vector<Phase> SlicedWeightExecutor::phases(int) const {
  const int slices = this->slices(problem_.batch);
  if (slices == 1) return {{"groups of channels", groups()}};
  return {{"groups of channels and slices of the batch", std::int64_t{groups()} * slices},
          {"sums of slices", groups()}};
}

}  // namespace replk::depthwise
