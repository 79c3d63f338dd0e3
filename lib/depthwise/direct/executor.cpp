#include "depthwise/direct/executor.hpp"

#include <algorithm>
#include <functional>

#include "core/threads.hpp"
#include "simd/finish.hpp"

namespace replk::depthwise {

using core::round_up;

DirectExecutor::DirectExecutor(const Problem& problem, const Kernel& kernel,
                               const DirectParameters& parameters, Isa isa)
    : problem_(problem),
      kernel_(kernel),
      taps_(kernel),
      parameters_(parameters),
      layout_(problem, kernel, parameters, isa),
      input_(input_rows(problem)),
      output_(output_rows(problem)),
      vertical_(vertical(problem, kernel)),
      useful_(meeting_taps(problem, kernel)) {
  const DirectTaps& taps = taps_;
  compact_row_.assign(kernel.height, -1);
  for (std::size_t row = 0; row < taps.rows.size(); row++)
    compact_row_[taps.rows[row]] = static_cast<int>(row);
  weights_row_bytes_ = static_cast<std::int64_t>(taps.columns.size()) * layout_.lanes * 4;
  const std::size_t channels = static_cast<std::size_t>(layout_.blocks) * layout_.lanes;
  weights_ = core::Buffer<float>(taps.rows.size() * taps.columns.size() * channels);
  bias_ = core::Buffer<float>(channels);
  if (problem.epilogue.scale) scale_ = core::Buffer<float>(channels);
  const int rest = layout_.out_height % parameters.rows;
  for (int rows : {parameters.rows, rest}) {
    if (rows == 0) continue;
    RowGroup& group = rows == parameters.rows ? whole_ : rest_;
    const jit::DirectSpec spec = direct_specification(problem, kernel, taps, parameters, isa, rows, false);
    group.phase_of_row = jit::direct_phases(spec).of_row;
    for (int phase : group.phase_of_row) phases_ = std::max(phases_, phase + 1);
    if (!layout_.native || layout_.channels >= layout_.lanes) group.blocks.emplace(spec);
    if (layout_.native && layout_.tail)
      group.tail.emplace(direct_specification(problem, kernel, taps, parameters, isa, rows, true));
  }
  scratch_ = make_scratch();
}

void DirectExecutor::set_weights(const Weights& weights, int threads) {
  const int lanes = layout_.lanes;
  const std::int64_t row_floats = static_cast<std::int64_t>(taps_.columns.size()) * lanes;
  const bool compact = !taps_.every_column(kernel_);
  const auto body = [&](std::int64_t block, int) {
    const int channel = static_cast<int>(block) * lanes;
    float* to = weights_.data() + block * static_cast<std::int64_t>(taps_.rows.size()) * row_floats;
    constexpr int half = 8;  // of a vector of 16: a line of all lanes would take 64 KiB of stack
    float line[most_extent * half];
    for (const int a : taps_.rows) {
      if (!compact) weights.row(kernel_, a, channel, lanes, to);
      for (int h = 0; compact && h < lanes; h += half) {
        weights.row(kernel_, a, channel + h, half, line);
        for (std::size_t i = 0; i < taps_.columns.size(); i++)
          std::copy_n(line + taps_.columns[i] * half, half, to + static_cast<std::int64_t>(i) * lanes + h);
      }
      to += row_floats;
    }
    weights.bias(channel, lanes, bias_.data() + channel);
    if (scale_.size() > 0) weights.scale(channel, lanes, scale_.data() + channel);
  };
  core::parallel_for(layout_.blocks, threads, std::ref(body));
}

void DirectExecutor::run(const Tensors& tensors, const Run& run) const {
  const DirectDeal d = layout_.deal(parameters_, run.batch, run.threads);
  const auto body = [&](std::int64_t task, int thread) {
    const int block = static_cast<int>(task / d.bands % d.groups) * d.blocks;
    const Task t{task / d.bands / d.groups, block, std::min(d.blocks, layout_.blocks - block),
                 static_cast<int>(task % d.bands), d.bands};
    run_task(tensors, t, static_cast<char*>(run.workspace) + scratch_.bytes * thread);
  };
  core::parallel_for(run.batch * d.groups * d.bands, run.threads, std::ref(body));
}

std::vector<Phase> DirectExecutor::phases(int threads) const {
  const DirectDeal d = layout_.deal(parameters_, problem_.batch, threads);
  return {{"rows of channel blocks", problem_.batch * d.groups * d.bands}};
}

Work DirectExecutor::work() const {
  const double size = static_cast<double>(size_of(problem_.type));
  const double outputs = static_cast<double>(problem_.output_values(problem_.batch));
  return {.fma = static_cast<double>(useful_) / problem_.channels * layout_.blocks * layout_.lanes,
          .bytes_read = size * (static_cast<double>(problem_.input_values(problem_.batch)) +
                                (problem_.epilogue.residual ? outputs : 0)) +
                        4.0 * weights_.size(),
          .bytes_written = size * outputs};
}

std::size_t DirectExecutor::prepared_bytes() const {
  std::size_t bytes = 4 * (weights_.size() + bias_.size());
  for (const RowGroup* group : {&whole_, &rest_}) {
    if (group->blocks) bytes += group->blocks->code_bytes();
    if (group->tail) bytes += group->tail->code_bytes();
  }
  return bytes;
}

DirectExecutor::Scratch DirectExecutor::make_scratch() const {
  const std::size_t steps = round_up(whole_.phase_of_row.size() * sizeof(jit::DirectStep), core::alignment);
  Scratch s;
  s.out = round_up(layout_.ring_bytes(parameters_), core::alignment);
  s.residual = s.out + round_up(layout_.out_bytes(parameters_), core::alignment);
  s.steps = s.residual + (problem_.epilogue.residual ? s.residual - s.out : 0);
  s.tail_steps = s.steps + steps;
  s.counts = s.tail_steps + steps;
  s.bytes = s.counts + round_up(phases_ * sizeof(std::int32_t), core::alignment) + core::scratch_gap;
  return s;
}

void DirectExecutor::run_task(const Tensors& tensors, const Task& task, char* scratch_memory) const {
  const int height = layout_.out_height, rows = parameters_.rows;
  const int row_groups = layout_.row_groups(parameters_);
  const int begin = row_groups * task.band / task.bands * rows;
  const int end = std::min(height, row_groups * (task.band + 1) / task.bands * rows);
  int packed = std::max(0, vertical_.origin(begin));  // input rows before it are not needed any more
  for (int row = begin; row < end; row += rows)
    run_rows(tensors, task, row, end - row >= rows ? whole_ : rest_, std::min(rows, end - row), packed,
             scratch_memory);
}

/// `count` output rows from `row` of the task's channels. Input rows before `packed` are in the ring
/// already.
void DirectExecutor::run_rows(const Tensors& tensors, const Task& task, int row, const RowGroup& group,
                              int count, int& packed, char* memory) const {
  const DirectLayout& l = layout_;
  const Scratch& at = scratch_;
  const int block = task.block, blocks = task.blocks;
  const int channel = block * l.lanes, channels = std::min(blocks * l.lanes, l.channels - channel);
  const bool tail = group.tail && block + blocks == l.blocks;
  const int whole = blocks - tail;
  auto* ring = reinterpret_cast<float*>(memory);
  auto* steps = reinterpret_cast<jit::DirectStep*>(memory + at.steps);
  auto* tail_steps = reinterpret_cast<jit::DirectStep*>(memory + at.tail_steps);
  auto* counts = reinterpret_cast<std::int32_t*>(memory + at.counts);

  const int first = vertical_.origin(row);  // input row that meets kernel row 0 for the first output row
  const int kernel_height = static_cast<int>(compact_row_.size());
  const int reach = kernel_height + (count - 1) * problem_.stride_h;
  const int last = std::min(problem_.height, first + reach);
  packed = std::max(packed, first);
  const int ring_channel = parameters_.ring ? channel : l.channels - l.tail;
  for (; (parameters_.ring || tail) && packed < last; packed++)
    simd::pack_row(input_, tensors.src, input_.at(task.image, packed, ring_channel),
                   channel + channels - ring_channel, l.lanes, ring + packed % l.ring_rows * l.ring_row,
                   l.ring_block, ring_channel);

  std::fill_n(counts, phases_, 0);
  int step = 0;
  for (int j = std::max(0, -first); j < last - first; j++) {
    // Past the kernel's last row only later output rows are met; there every kernel row has taps
    // (direct_code_fits()).
    const int kernel_row = j < kernel_height ? compact_row_[j] : j;
    if (kernel_row < 0 || group.phase_of_row[kernel_row] < 0) continue;
    counts[group.phase_of_row[kernel_row]]++;
    const std::int64_t weights = kernel_row * weights_row_bytes_;
    tail_steps[step] = {4 * ((first + j) % l.ring_rows * l.ring_row), weights};
    steps[step] =
        parameters_.ring ? tail_steps[step] : jit::DirectStep{4 * ((first + j) * input_.row_stride), weights};
    step++;
  }

  float* dst = reinterpret_cast<float*>(memory + at.out);
  const float* residual = reinterpret_cast<const float*>(memory + at.residual);
  std::int64_t dst_block = 4 * l.out_block;
  if (l.native) {
    const std::int64_t offset = output_.at(task.image, row, channel);
    dst = static_cast<float*>(tensors.dst) + offset;
    residual = problem_.epilogue.residual ? static_cast<const float*>(tensors.residual) + offset : nullptr;
    dst_block = 4 * l.lanes;
  } else if (problem_.epilogue.residual) {
    for (int r = 0; r < count; r++)
      simd::pack_row(output_, tensors.residual, output_.at(task.image, row + r, channel), channels, l.lanes,
                     reinterpret_cast<float*>(memory + at.residual) + r * l.out_row, l.out_block);
  }

  const std::int64_t weights_block = static_cast<std::int64_t>(weights_.size()) / l.blocks;
  jit::DirectArguments arguments{
      .x = parameters_.ring ? ring
                            : static_cast<const float*>(tensors.src) + input_.at(task.image, 0, channel),
      .weights = weights_.data() + block * weights_block,
      .bias = bias_.data() + channel,
      .dst = dst,
      .residual = residual,
      .steps = steps,
      .counts = counts,
      .blocks = whole,
      .x_block_bytes = 4 * (parameters_.ring ? l.ring_block : l.lanes),
      .dst_block_bytes = dst_block};
  if (whole > 0) (*group.blocks)(arguments);
  if (tail) {
    arguments.x = ring + (parameters_.ring ? whole * l.ring_block : 0);
    arguments.weights += whole * weights_block;
    arguments.bias += whole * l.lanes;
    arguments.dst += whole * l.lanes;
    if (residual) arguments.residual += whole * l.lanes;
    arguments.steps = tail_steps;
    arguments.blocks = 1;
    (*group.tail)(arguments);
  }
  if (!l.native) write_rows(tensors, task, row, count, memory);
}

void DirectExecutor::write_rows(const Tensors& tensors, const Task& task, int row, int count,
                                char* memory) const {
  const DirectLayout& l = layout_;
  const int channel = task.block * l.lanes, channels = std::min(task.blocks * l.lanes, l.channels - channel);
  auto* const out = reinterpret_cast<float*>(memory + scratch_.out);
  const auto* residual = reinterpret_cast<const float*>(memory + scratch_.residual);
  for (int b = 0; !l.finished && b < task.blocks; b++)
    simd::finish(problem_.epilogue.activation,
                 scale_.size() > 0 ? scale_.data() + channel + b * l.lanes : nullptr,
                 problem_.epilogue.residual ? residual + b * l.out_block : nullptr, l.lanes,
                 out + b * l.out_block, count * l.out_row);
  for (int r = 0; r < count; r++)
    simd::unpack_row(output_, out + r * l.out_row, l.out_block, channels, l.lanes, tensors.dst,
                     output_.at(task.image, row + r, channel));
}

}  // namespace replk::depthwise
