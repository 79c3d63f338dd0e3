#include "depthwise/direct/executor.hpp"

#include <algorithm>
#include <functional>
#include <set>
#include <utility>

#include "core/threads.hpp"
#include "simd/finish.hpp"

namespace replk::depthwise {

using core::round_up;

DirectExecutor::DirectExecutor(DirectGeometry geometry)
    : geometry_(std::move(geometry)),
      input_(input_rows(geometry_.problem)),
      output_(output_rows(geometry_.problem)) {
  const DirectGeometry& g = geometry_;
  compact_row_.assign(g.kernel_rows(), -1);
  for (std::size_t row = 0; row < g.taps.rows.size(); row++)
    compact_row_[g.taps.rows[row] / g.row_step] = static_cast<int>(row);
  weights_row_bytes_ = static_cast<std::int64_t>(g.taps.columns.size()) * g.lanes * 4;
  const std::size_t channels = static_cast<std::size_t>(g.blocks) * g.lanes;
  weights_ = core::Buffer<float>(g.taps.rows.size() * g.taps.columns.size() * channels);
  bias_ = core::Buffer<float>(channels);
  if (g.problem.epilogue.scale) scale_ = core::Buffer<float>(channels);
  std::set<int> counts{g.parameters.rows};
  for (int first = 0; first < g.row_step; first++)
    if (const int rest = g.rows_from(first).axis.output % g.parameters.rows) counts.insert(rest);
  for (int rows : counts) {
    RowGroup& group = groups_[rows];
    const jit::DirectSpec spec = g.specification(rows, false);
    group.phase_of_row = jit::direct_phases(spec).of_row;
    for (int phase : group.phase_of_row) phases_ = std::max(phases_, phase + 1);
    if (!g.native || g.problem.channels >= g.lanes) group.blocks.emplace(spec);
    if (g.native && g.tail) group.tail.emplace(g.specification(rows, true));
  }
  scratch_ = make_scratch();
}

void DirectExecutor::set_weights(const Weights& weights, int threads) {
  const DirectGeometry& g = geometry_;
  const int lanes = g.lanes;
  const std::int64_t row_floats = static_cast<std::int64_t>(g.taps.columns.size()) * lanes;
  const bool compact = !g.taps.every_column(g.kernel);
  const auto body = [&](std::int64_t block, int) {
    const int channel = static_cast<int>(block) * lanes;
    float* to = weights_.data() + block * static_cast<std::int64_t>(g.taps.rows.size()) * row_floats;
    constexpr int half = 8;  // of a vector of 16: a line of all lanes would take 64 KiB of stack
    float line[most_extent * half];
    for (const int a : g.taps.rows) {
      if (!compact) weights.row(g.kernel, a, channel, lanes, to);
      for (int h = 0; compact && h < lanes; h += half) {
        weights.row(g.kernel, a, channel + h, half, line);
        for (std::size_t i = 0; i < g.taps.columns.size(); i++)
          std::copy_n(line + g.taps.columns[i] * half, half, to + static_cast<std::int64_t>(i) * lanes + h);
      }
      to += row_floats;
    }
    weights.bias(channel, lanes, bias_.data() + channel);
    if (scale_.size() > 0) weights.scale(channel, lanes, scale_.data() + channel);
  };
  core::parallel_for(g.blocks, threads, std::ref(body));
}

void DirectExecutor::run(const Tensors& tensors, const Run& run) const {
  const DirectGeometry& g = geometry_;
  const DirectDeal d = g.deal(run.batch, run.threads);
  const auto body = [&](std::int64_t task, int thread) {
    const int block = static_cast<int>(task / d.bands % d.groups) * d.blocks;
    const int blocks = std::min(d.blocks, g.blocks - block), channel = block * g.lanes;
    const Task t{.image = task / d.bands / d.groups,
                 .block = block,
                 .blocks = blocks,
                 .channel = channel,
                 .channels = std::min(blocks * g.lanes, g.problem.channels - channel),
                 .band = static_cast<int>(task % d.bands),
                 .bands = d.bands};
    run_task(tensors, t, static_cast<char*>(run.workspace) + scratch_.bytes * thread);
  };
  core::parallel_for(run.batch * d.groups * d.bands, run.threads, std::ref(body));
}

std::vector<Phase> DirectExecutor::phases(int threads) const {
  const DirectGeometry& g = geometry_;
  const DirectDeal d = g.deal(g.problem.batch, threads);
  return {{"rows of channel blocks", g.problem.batch * d.groups * d.bands}};
}

Work DirectExecutor::work() const {
  const DirectGeometry& g = geometry_;
  return {
      .fma = static_cast<double>(meeting_taps(g.problem, g.kernel)) / g.problem.channels * g.blocks * g.lanes,
      .bytes_read = bytes_read(g.problem) + 4.0 * weights_.size(),
      .bytes_written = bytes_written(g.problem)};
}

std::size_t DirectExecutor::prepared_bytes() const {
  std::size_t bytes = 4 * (weights_.size() + bias_.size());
  for (const auto& [rows, group] : groups_) {
    if (group.blocks) bytes += group.blocks->code_bytes();
    if (group.tail) bytes += group.tail->code_bytes();
  }
  return bytes;
}

DirectExecutor::Scratch DirectExecutor::make_scratch() const {
  const DirectGeometry& g = geometry_;
  const std::size_t steps =
      round_up(groups_.at(g.parameters.rows).phase_of_row.size() * sizeof(jit::DirectStep), core::alignment);
  Scratch s;
  s.out = round_up(g.ring_bytes(), core::alignment);
  s.residual = s.out + round_up(g.out_bytes(), core::alignment);
  s.steps = s.residual + (g.problem.epilogue.residual ? s.residual - s.out : 0);
  s.tail_steps = s.steps + steps;
  s.counts = s.tail_steps + steps;
  s.bytes = s.counts + round_up(phases_ * sizeof(std::int32_t), core::alignment) + core::scratch_gap;
  return s;
}

void DirectExecutor::run_task(const Tensors& tensors, const Task& task, char* scratch_memory) const {
  const DirectGeometry& g = geometry_;
  const int rows = g.parameters.rows, groups = g.row_groups();
  // Groups are counted through all sets of rows, one behind the other.
  int group = groups * task.band / task.bands, before = 0;
  const int end = groups * (task.band + 1) / task.bands;
  for (int first = 0; first < g.row_step && group < end; first++) {
    const DirectRows set = g.rows_from(first);
    const int height = set.axis.output, all = (height + rows - 1) / rows;
    int packed = 0;  // input rows before it are not needed any more
    for (; group < std::min(end, before + all); group++) {
      const int row = (group - before) * rows;
      run_rows(tensors, task, set, row, std::min(rows, height - row), packed, scratch_memory);
    }
    before += all;
  }
}

void DirectExecutor::pack_rows(const Tensors& tensors, const Task& task, const DirectRows& rows, int begin,
                               int end, float* ring) const {
  const DirectGeometry& g = geometry_;
  const int ring_channel = g.parameters.ring ? task.channel : g.problem.channels - g.tail;
  for (int row = begin; row < end; row++)
    simd::pack_rows(input_, tensors.src,
                    {.at = input_.at(task.image, rows.in + row * g.row_step, ring_channel),
                     .channels = task.channel + task.channels - ring_channel,
                     .first_channel = ring_channel},
                    ring + row % g.ring_rows * g.ring_row, {g.lanes, g.ring_block});
}

void DirectExecutor::list_steps(const RowGroup& group, const DirectRows& rows, int first, int last,
                                char* memory) const {
  const DirectGeometry& g = geometry_;
  auto* steps = reinterpret_cast<jit::DirectStep*>(memory + scratch_.steps);
  auto* tail_steps = reinterpret_cast<jit::DirectStep*>(memory + scratch_.tail_steps);
  auto* counts = reinterpret_cast<std::int32_t*>(memory + scratch_.counts);
  const int kernel_height = static_cast<int>(compact_row_.size());
  std::fill_n(counts, phases_, 0);
  int step = 0;
  for (int j = std::max(0, -first); j < last - first; j++) {
    // Past the kernel's last row only later output rows are met; there every kernel row has taps
    // (direct_code_fits()).
    const int kernel_row = j < kernel_height ? compact_row_[j] : j;
    if (kernel_row < 0 || group.phase_of_row[kernel_row] < 0) continue;
    counts[group.phase_of_row[kernel_row]]++;
    const std::int64_t weights = kernel_row * weights_row_bytes_;
    tail_steps[step] = {4 * ((first + j) % g.ring_rows * g.ring_row), weights};
    steps[step] =
        g.parameters.ring
            ? tail_steps[step]
            : jit::DirectStep{4 * ((rows.in + (first + j) * g.row_step) * input_.row_stride), weights};
    step++;
  }
}

void DirectExecutor::take_inputs(const Tensors& tensors, const Task& task, const DirectRows& rows, int row,
                                 int count, bool pack, int& packed, char* memory) const {
  const int first = rows.axis.origin(row);  // input row that meets kernel row 0 for the first output row
  const int reach = static_cast<int>(compact_row_.size()) + (count - 1) * geometry_.problem.stride_h;
  const int last = std::min(rows.axis.input, first + reach);
  packed = std::max(packed, first);
  if (pack) {
    pack_rows(tensors, task, rows, packed, last, reinterpret_cast<float*>(memory));
    packed = std::max(packed, last);
  }
  list_steps(groups_.at(count), rows, first, last, memory);
}

DirectExecutor::Target DirectExecutor::target(const Tensors& tensors, const Task& task, int row, int count,
                                              char* memory) const {
  const DirectGeometry& g = geometry_;
  const bool residual = g.problem.epilogue.residual;
  if (g.native) {
    const std::int64_t offset = output_.at(task.image, row, task.channel);
    return {static_cast<float*>(tensors.dst) + offset,
            residual ? static_cast<const float*>(tensors.residual) + offset : nullptr, 4 * g.lanes};
  }
  auto* const packed = reinterpret_cast<float*>(memory + scratch_.residual);
  for (int r = 0; residual && r < count; r++)
    simd::pack_rows(output_, tensors.residual,
                    {output_.at(task.image, row + r * g.row_step, task.channel), task.channels},
                    packed + r * g.out_row, {g.lanes, g.out_block});
  return {reinterpret_cast<float*>(memory + scratch_.out), packed, 4 * g.out_block};
}

void DirectExecutor::run_rows(const Tensors& tensors, const Task& task, const DirectRows& rows, int row,
                              int count, int& packed, char* memory) const {
  const DirectGeometry& g = geometry_;
  const RowGroup& group = groups_.at(count);
  const Scratch& at = scratch_;
  const int block = task.block, blocks = task.blocks, channel = task.channel;
  const bool tail = group.tail && block + blocks == g.blocks;
  const int whole = blocks - tail;
  take_inputs(tensors, task, rows, row, count, g.parameters.ring || tail, packed, memory);
  const int out = rows.first + row * g.row_step;

  const Target target = this->target(tensors, task, out, count, memory);
  const auto* ring = reinterpret_cast<const float*>(memory);
  const std::int64_t weights_block = static_cast<std::int64_t>(weights_.size()) / g.blocks;
  jit::DirectArguments arguments{
      .x = g.parameters.ring ? ring
                             : static_cast<const float*>(tensors.src) + input_.at(task.image, 0, channel),
      .weights = weights_.data() + block * weights_block,
      .bias = bias_.data() + channel,
      .dst = target.dst,
      .residual = target.residual,
      .steps = reinterpret_cast<const jit::DirectStep*>(memory + at.steps),
      .counts = reinterpret_cast<const std::int32_t*>(memory + at.counts),
      .blocks = whole,
      .x_block_bytes = 4 * (g.parameters.ring ? g.ring_block : g.lanes),
      .dst_block_bytes = target.block_bytes};
  if (whole > 0) (*group.blocks)(arguments);
  if (tail) {
    arguments.x = ring + (g.parameters.ring ? whole * g.ring_block : 0);
    arguments.weights += whole * weights_block;
    arguments.bias += whole * g.lanes;
    arguments.dst += whole * g.lanes;
    if (arguments.residual) arguments.residual += whole * g.lanes;
    arguments.steps = reinterpret_cast<const jit::DirectStep*>(memory + at.tail_steps);
    arguments.blocks = 1;
    (*group.tail)(arguments);
  }
  if (!g.native) write_rows(tensors, task, out, count, memory);
}

void DirectExecutor::write_rows(const Tensors& tensors, const Task& task, int row, int count,
                                char* memory) const {
  const DirectGeometry& g = geometry_;
  auto* const out = reinterpret_cast<float*>(memory + scratch_.out);
  const auto* residual = reinterpret_cast<const float*>(memory + scratch_.residual);
  for (int b = 0; !g.finished && b < task.blocks; b++)
    simd::finish(g.problem.epilogue.activation,
                 scale_.size() > 0 ? scale_.data() + task.channel + b * g.lanes : nullptr,
                 g.problem.epilogue.residual ? residual + b * g.out_block : nullptr, g.lanes,
                 out + b * g.out_block, count * g.out_row);
  for (int r = 0; r < count; r++)
    simd::unpack_rows(output_, out + r * g.out_row, {g.lanes, g.out_block}, tensors.dst,
                      {output_.at(task.image, row + r * g.row_step, task.channel), task.channels});
}

}  // namespace replk::depthwise
