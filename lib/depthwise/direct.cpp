#include "depthwise/direct.hpp"

#include <algorithm>
#include <cmath>
#include <functional>
#include <numeric>
#include <optional>

#include "core/memory.hpp"
#include "core/threads.hpp"
#include "depthwise/rows.hpp"
#include "jit/direct.hpp"

namespace replk::depthwise {
namespace {

using core::round_up;

constexpr std::int64_t max_code_fmas = 60000;  // about half a megabyte
constexpr std::int64_t max_thread_workspace = 64 << 20;
constexpr std::int64_t max_displacement = INT32_MAX / 2;

struct Parameters {
  int rows, columns;
  bool ring;
  int blocks;

  Tiling tiling() const {
    Tiling t{"direct", {}};
    return t.set("rows", rows).set("columns", columns).set("ring", ring ? 1 : 0).set("blocks", blocks);
  }
  /// Nothing unless every field is there, no other is, and each is in its range.
  static std::optional<Parameters> read(const Tiling& t) {
    const int rows = t.number("rows", 0), columns = t.number("columns", 0), ring = t.number("ring", -1),
              blocks = t.number("blocks", 0);
    if (t.algorithm != "direct" || t.fields.size() != 4 || rows < 1 || rows > 8 || columns < 1 ||
        columns > 32 || (ring != 0 && ring != 1) || blocks < 1 || blocks > 4096)
      return std::nullopt;
    return Parameters{rows, columns, ring == 1, blocks};
  }
};

/// The kernel without the rows and columns that hold no tap at all (the holes of a dilated one).
struct Taps {
  std::vector<int> rows;                   // compact row -> kernel row
  std::vector<int> columns;                // compact column -> kernel column
  std::vector<std::vector<bool>> support;  // [compact row][compact column]

  explicit Taps(const Kernel& k) {
    for (int b = 0; b < k.width; b++)
      for (int a = 0; a < k.height; a++)
        if (k.has(a, b)) {
          columns.push_back(b);
          break;
        }
    for (int a = 0; a < k.height; a++) {
      std::vector<bool> row;
      for (int b : columns) row.push_back(k.has(a, b));
      if (std::find(row.begin(), row.end(), true) == row.end()) continue;
      rows.push_back(a);
      support.push_back(std::move(row));
    }
  }
  bool every_row(const Kernel& k) const { return static_cast<int>(rows.size()) == k.height; }
};

/// Sizes that follow from a problem and a tiling.
struct Layouts {
  bool native;  // the code writes the tensor itself: channels-last fp32
  int lanes, channels, blocks,
      tail;  // blocks of lanes, the last of which may have only `tail` channels (0: none)
  int out_height, out_width;
  int ring_rows;                      // input rows that a row group can meet
  std::int64_t ring_row, ring_block;  // floats
  std::int64_t out_row, out_block;    // floats, of the packed output where not native

  Layouts(const Problem& p, const Kernel& k, const Parameters& t, Isa isa)
      : native(p.layout == Layout::nhwc && p.type == DataType::f32),
        lanes(vector_floats(isa)),
        channels(p.channels),
        blocks((p.channels + lanes - 1) / lanes),
        tail(p.channels % lanes),
        out_height(p.out_height()),
        out_width(p.out_width()),
        ring_rows(std::min(p.height, k.height + (t.rows - 1) * p.stride_h)),
        ring_row(std::int64_t{p.width} * lanes),
        ring_block(ring_rows * ring_row),
        out_row(std::int64_t{out_width} * lanes),
        out_block(t.rows * out_row) {}

  int group_blocks(const Parameters& t) const { return std::min(t.blocks, blocks); }
  std::int64_t ring_bytes(const Parameters& t) const {
    return 4 * ring_block * (t.ring ? group_blocks(t) : tail ? 1 : 0);
  }
  std::int64_t out_bytes(const Parameters& t) const { return native ? 0 : 4 * out_block * group_blocks(t); }
};

jit::DirectSpec specification(const Problem& p, const Kernel& k, const Taps& taps, const Parameters& t,
                              Isa isa, int rows, bool tail) {
  const Layouts l(p, k, t, isa);
  jit::DirectSpec spec;
  spec.isa = isa;
  spec.rows = rows;
  spec.columns = t.columns;
  spec.width = p.width;
  spec.out_width = l.out_width;
  spec.stride_h = p.stride_h;
  spec.stride_w = p.stride_w;
  for (int b : taps.columns) spec.taps.push_back(k.offset_w + b);
  spec.support = taps.support;
  const std::int64_t pixel = 4 * std::int64_t{p.channels};
  spec.x_pixel_bytes = t.ring || tail ? 4 * l.lanes : pixel;
  spec.dst_pixel_bytes = l.native ? pixel : 4 * l.lanes;
  spec.dst_row_bytes = spec.dst_pixel_bytes * l.out_width;
  spec.channels = tail ? l.tail : l.lanes;
  spec.activation = p.epilogue.activation;
  spec.residual = p.epilogue.residual;
  return spec;
}

bool code_fits(const Problem& p, const Kernel& k, const Taps& taps, const Parameters& t, Isa isa) {
  if (taps.rows.empty() || (t.rows > 1 && !taps.every_row(k))) return false;
  return jit::direct_code_fmas(specification(p, k, taps, t, isa, t.rows, false)) <= max_code_fmas;
}

/// All but the code's size, which depends on the register tile alone and takes longer to find.
bool memory_fits(const Problem& p, const Kernel& k, const Parameters& t, Isa isa) {
  const Layouts l(p, k, t, isa);
  if (!t.ring && !l.native) return false;
  if (!jit::direct_fits(isa, t.rows, t.columns, p.epilogue.activation) || t.rows > l.out_height) return false;
  const std::int64_t pixel = 4 * std::int64_t{p.channels};
  // Displacements in the code have 32 bits, and the longest spans a tile's rows or its inputs.
  if ((t.rows + 1) * pixel * l.out_width > max_displacement) return false;
  if ((t.columns * p.stride_w + k.width) * pixel > max_displacement) return false;
  if ((t.rows * p.stride_h + 1) * std::int64_t{k.width} * 4 * l.lanes > max_displacement) return false;
  return l.ring_bytes(t) + 2 * l.out_bytes(t) <= max_thread_workspace;
}

class Direct final : public Executor {
 public:
  Direct(const Problem& problem, const Kernel& kernel, const Parameters& parameters, Isa isa)
      : problem_(problem),
        parameters_(parameters),
        layout_(problem, kernel, parameters, isa),
        input_(RowLayout::of(problem, problem.height, problem.width)),
        output_(RowLayout::of(problem, layout_.out_height, layout_.out_width)),
        offset_h_(kernel.offset_h),
        useful_(meeting_taps(problem, kernel)) {
    const Taps taps(kernel);
    compact_row_.assign(kernel.height, -1);
    for (std::size_t row = 0; row < taps.rows.size(); row++)
      compact_row_[taps.rows[row]] = static_cast<int>(row);
    weights_row_bytes_ = static_cast<std::int64_t>(taps.columns.size()) * layout_.lanes * 4;
    pack_weights(kernel, taps);
    const int rest = layout_.out_height % parameters.rows;
    for (int rows : {parameters.rows, rest}) {
      if (rows == 0) continue;
      RowGroup& group = rows == parameters.rows ? whole_ : rest_;
      const jit::DirectSpec spec = specification(problem, kernel, taps, parameters, isa, rows, false);
      group.phase_of_row = jit::direct_phases(spec).of_row;
      for (int phase : group.phase_of_row) phases_ = std::max(phases_, phase + 1);
      if (!layout_.native || layout_.channels >= layout_.lanes) group.blocks.emplace(spec);
      if (layout_.native && layout_.tail)
        group.tail.emplace(specification(problem, kernel, taps, parameters, isa, rows, true));
    }
    scratch_ = make_scratch();
  }

  std::size_t workspace_bytes(int threads) const override { return scratch_.bytes * threads; }

  void run(const Tensors& tensors, void* workspace, int threads) const override {
    const int bands = band_count(threads);
    const auto body = [&](std::int64_t task, int thread) {
      const Task t{task / bands / groups(), static_cast<int>(task / bands % groups()),
                   static_cast<int>(task % bands), bands};
      run_task(tensors, t, static_cast<char*>(workspace) + scratch_.bytes * thread);
    };
    core::parallel_for(problem_.batch * groups() * bands, threads, std::ref(body));
  }

  std::vector<Phase> phases(int threads) const override {
    return {{"rows of channel blocks", problem_.batch * groups() * band_count(threads)}};
  }

  Work work() const override {
    const double size = static_cast<double>(size_of(problem_.type));
    const double outputs = static_cast<double>(problem_.output_elements());
    return {.fma = static_cast<double>(useful_) / problem_.channels * layout_.blocks * layout_.lanes,
            .bytes_read = size * (static_cast<double>(problem_.input_elements()) +
                                  (problem_.epilogue.residual ? outputs : 0)) +
                          4.0 * weights_.size(),
            .bytes_written = size * outputs};
  }

  std::size_t prepared_bytes() const override {
    std::size_t bytes = 4 * (weights_.size() + bias_.size());
    for (const RowGroup* group : {&whole_, &rest_}) {
      if (group->blocks) bytes += group->blocks->code_bytes();
      if (group->tail) bytes += group->tail->code_bytes();
    }
    return bytes;
  }

 private:
  /// Code for a number of output rows at once.
  struct RowGroup {
    std::vector<int> phase_of_row;
    std::optional<jit::DirectKernel> blocks, tail;  // whole channel vectors, and what is left
  };
  struct Task {
    std::int64_t image;
    int group, band, bands;
  };
  /// Where a thread's workspace holds what, in bytes.
  struct Scratch {
    std::size_t out, residual, steps, tail_steps, counts, bytes;
  };

  int groups() const {
    const int blocks = layout_.group_blocks(parameters_);
    return (layout_.blocks + blocks - 1) / blocks;
  }
  int row_groups() const { return (layout_.out_height + parameters_.rows - 1) / parameters_.rows; }
  /// Rows are split only where images and channels alone give too few tasks, since each band packs its own
  /// halo.
  int band_count(int threads) const {
    if (threads <= 1) return 1;
    const std::int64_t tasks = problem_.batch * groups();
    return static_cast<int>(std::clamp<std::int64_t>((4 * threads + tasks - 1) / tasks, 1, row_groups()));
  }

  Scratch make_scratch() const {
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

  void pack_weights(const Kernel& kernel, const Taps& taps) {
    const int lanes = layout_.lanes;
    weights_ = core::Buffer<float>(taps.rows.size() * taps.columns.size() * layout_.blocks * lanes, true);
    bias_ = core::Buffer<float>(static_cast<std::size_t>(layout_.blocks) * lanes, true);
    std::copy(kernel.bias.begin(), kernel.bias.end(), bias_.begin());
    float* to = weights_.data();
    for (int block = 0; block < layout_.blocks; block++)
      for (int a : taps.rows)
        for (int b : taps.columns) {
          const int first = block * lanes, count = std::min(lanes, layout_.channels - first);
          std::copy_n(kernel.at(a, b) + first, count, to);
          to += lanes;
        }
  }

  void run_task(const Tensors& tensors, const Task& task, char* scratch_memory) const {
    const int height = layout_.out_height, rows = parameters_.rows;
    const int begin = row_groups() * task.band / task.bands * rows;
    const int end = std::min(height, row_groups() * (task.band + 1) / task.bands * rows);
    int packed =
        std::max(0, begin * problem_.stride_h + offset_h_);  // input rows before it are not needed any more
    for (int row = begin; row < end; row += rows)
      run_rows(tensors, task, row, end - row >= rows ? whole_ : rest_, std::min(rows, end - row), packed,
               scratch_memory);
  }

  /// `count` output rows from `row` of the task's channels. Input rows before `packed` are in the ring
  /// already.
  void run_rows(const Tensors& tensors, const Task& task, int row, const RowGroup& group, int count,
                int& packed, char* memory) const {
    const Layouts& l = layout_;
    const Scratch& at = scratch_;
    const int block = task.group * l.group_blocks(parameters_);
    const int blocks = std::min(l.group_blocks(parameters_), l.blocks - block);
    const int channel = block * l.lanes, channels = std::min(blocks * l.lanes, l.channels - channel);
    const bool tail = group.tail && block + blocks == l.blocks;
    const int whole = blocks - tail;
    auto* ring = reinterpret_cast<float*>(memory);
    auto* steps = reinterpret_cast<jit::DirectStep*>(memory + at.steps);
    auto* tail_steps = reinterpret_cast<jit::DirectStep*>(memory + at.tail_steps);
    auto* counts = reinterpret_cast<std::int32_t*>(memory + at.counts);

    const int first =
        row * problem_.stride_h + offset_h_;  // input row that meets kernel row 0 for the first output row
    const int kernel_height = static_cast<int>(compact_row_.size());
    const int reach = kernel_height + (count - 1) * problem_.stride_h;
    const int last = std::min(problem_.height, first + reach);
    packed = std::max(packed, first);
    const int ring_channel = parameters_.ring ? channel : l.channels - l.tail;
    for (; (parameters_.ring || tail) && packed < last; packed++)
      pack_row(input_, tensors.src, input_.at(task.image, packed, ring_channel),
               channel + channels - ring_channel, l.lanes, ring + packed % l.ring_rows * l.ring_row,
               l.ring_block);

    std::fill_n(counts, phases_, 0);
    int step = 0;
    for (int j = std::max(0, -first); j < last - first; j++) {
      // Past the kernel's last row only later output rows are met; there every kernel row has taps
      // (code_fits()).
      const int kernel_row = j < kernel_height ? compact_row_[j] : j;
      if (kernel_row < 0 || group.phase_of_row[kernel_row] < 0) continue;
      counts[group.phase_of_row[kernel_row]]++;
      const std::int64_t weights = kernel_row * weights_row_bytes_;
      tail_steps[step] = {4 * ((first + j) % l.ring_rows * l.ring_row), weights};
      steps[step] = parameters_.ring ? tail_steps[step]
                                     : jit::DirectStep{4 * ((first + j) * input_.row_stride), weights};
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
        pack_row(output_, tensors.residual, output_.at(task.image, row + r, channel), channels, l.lanes,
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
    if (!l.native)
      for (int r = 0; r < count; r++)
        unpack_row(output_, dst + r * l.out_row, l.out_block, channels, l.lanes, tensors.dst,
                   output_.at(task.image, row + r, channel));
  }

  Problem problem_;
  Parameters parameters_;
  Layouts layout_;
  RowLayout input_, output_;
  int offset_h_;
  std::int64_t useful_;
  std::vector<int> compact_row_;
  std::int64_t weights_row_bytes_ = 0;
  core::Buffer<float> weights_, bias_;  // [block][row][column][lane], [block][lane]
  int phases_ = 0;
  Scratch scratch_{};
  RowGroup whole_, rest_;
};

/// Cycles of one row group of one channel block, from what a core can start in a cycle: two multiply-adds,
/// two loads, one store; a multiply-add takes four cycles, so that few sums wait for each other.
double tile_cycles(const jit::DirectSpec& spec) {
  const jit::DirectPhases phases = jit::direct_phases(spec);
  double total = 0;
  for (const jit::DirectTile& tile : jit::direct_tiles(spec)) {
    double fmas = 0, loads = 0, steps = 0;
    for (int phase : phases.of_row) {
      if (phase < 0) continue;
      steps++;
      for (std::size_t tap = 0; tap < spec.taps.size(); tap++) {
        int rows = 0, columns = 0;
        for (const auto& support : phases.kinds[phase]) rows += !support.empty() && support[tap];
        for (int t = 0; t < tile.width; t++) {
          const int at = (tile.first + t) * spec.stride_w + spec.taps[tap];
          columns += at >= 0 && at < spec.width;
        }
        const bool loaded =
            rows > 1 && spec.rows * spec.columns + spec.rows < (spec.isa == Isa::avx512 ? 32 : 16);
        fmas += rows * columns;
        loads += columns > 0 ? rows + columns * (loaded ? 1 : rows) : 0;
      }
    }
    const double sums = spec.rows * tile.width, chain = 4 * fmas / sums;
    total += tile.repeat * (std::max({fmas / 2, loads / 1.55, chain}) + 2 * steps + 10 + 1.5 * sums);
  }
  return total;
}

class DirectAlgorithm final : public Algorithm {
 public:
  std::string_view name() const override { return "direct"; }
  bool exact() const override { return true; }
  int complexity() const override { return 1; }

  bool legal(const Problem& problem, const Kernel& geometry, const Tiling& tiling, Isa isa) const override {
    const auto parameters = Parameters::read(tiling);
    return isa != Isa::portable && parameters && memory_fits(problem, geometry, *parameters, isa) &&
           code_fits(problem, geometry, Taps(geometry), *parameters, isa);
  }

  std::vector<Candidate> candidates(const Problem& problem, const Kernel& geometry, Isa isa,
                                    int threads) const override {
    std::vector<Candidate> found;
    if (isa == Isa::portable) return found;
    const Taps taps(geometry);
    const int out_width = problem.out_width(),
              blocks = (problem.channels + vector_floats(isa) - 1) / vector_floats(isa);
    const int registers = isa == Isa::avx512 ? 32 : 16;
    for (int rows = 1; rows <= (isa == Isa::avx512 ? 6 : 4); rows++)
      for (int columns = 2; columns <= 28; columns++) {
        const int sums = rows * columns, tiles = (out_width + columns - 1) / columns;
        // Few sums wait for each other; a width that no tile would have is another's tiling.
        const bool small = sums < 6 && columns < out_width;
        if (small || sums + rows > registers || (columns > 2 && (out_width + tiles - 1) / tiles < columns))
          continue;
        const Parameters tile{rows, columns, true, 1};
        if (!jit::direct_fits(isa, rows, columns, problem.epilogue.activation) ||
            !code_fits(problem, geometry, taps, tile, isa))
          continue;
        const double cycles = tile_cycles(specification(problem, geometry, taps, tile, isa, rows, false));
        for (bool ring : {true, false})
          for (int group : {1, 2, 4, 8, 16, 64}) {
            if (group > 1 && group / 2 >= blocks) continue;
            if (ring && group > 8) continue;
            const Parameters parameters{rows, columns, ring, group};
            if (memory_fits(problem, geometry, parameters, isa))
              found.push_back(
                  {parameters.tiling(), predict(problem, geometry, parameters, isa, threads, cycles)});
          }
      }
    std::stable_sort(found.begin(), found.end(), [](const Candidate& a, const Candidate& b) {
      return a.predicted_seconds < b.predicted_seconds;
    });
    if (found.size() > 24) found.resize(24);
    return found;
  }

  std::unique_ptr<Executor> prepare(const Problem& problem, const Kernel& kernel, const Tiling& tiling,
                                    Isa isa) const override {
    return std::make_unique<Direct>(problem, kernel, Parameters::read(tiling).value(), isa);
  }

 private:
  static double predict(const Problem& p, const Kernel& k, const Parameters& t, Isa isa, int threads,
                        double group_cycles) {
    const Layouts l(p, k, t, isa);
    // Kernel rows outside the map are skipped at run time: scale by the share that meets it.
    std::int64_t meeting = 0;
    for (int row = 0; row < l.out_height; row++) {
      const int first = row * p.stride_h + k.offset_h;
      meeting += std::max(0, std::min(k.height, p.height - first) - std::max(0, -first));
    }
    const double share = static_cast<double>(meeting) / (static_cast<double>(l.out_height) * k.height);
    const double row_groups = std::ceil(static_cast<double>(l.out_height) / t.rows);
    double cycles = group_cycles * share * row_groups;
    const double in_pixels = static_cast<double>(p.height) * p.width,
                 out_pixels = l.out_height * static_cast<double>(l.out_width);
    const int group = l.group_blocks(t);
    // The rest is measured on Zen 3: cycles a pixel. Few blocks at a time leave cache lines half used or far
    // apart.
    if (t.ring)
      cycles += in_pixels * (2.2 + 3.0 / group);
    else
      cycles += in_pixels * 4.0 / group;
    if (!l.native) cycles += 3 * (out_pixels * (p.epilogue.residual ? 2 : 1) + in_pixels);
    if (4.0 * l.lanes * p.branches.front().taps() * group > 16e3)
      cycles += 2 * out_pixels;  // weights leave the L1
    // Pixels a power of two apart share a few sets of the L1 (4 KiB, 8 ways); where those cannot hold a
    // tile's inputs, each tile fetches them from the L2 again.
    const double window_rows = k.height + t.rows - 1.0, window_columns = t.columns + k.width - 1.0;
    const int step = std::gcd(4 * p.channels, 4096);
    if (!t.ring && window_rows * window_columns > 0.9 * 8 * 4096 / std::max(step, 64))
      cycles += in_pixels * (window_rows / t.rows) * (window_columns / t.columns) * (step == 4096 ? 4 : 1);
    cycles += row_groups * 250.0 / group;  // of calling the code
    const double bytes =
        4.0 * (in_pixels + out_pixels * (p.epilogue.residual ? 2 : 1)) * l.lanes * l.blocks * p.batch;
    const double seconds = cycles / 3.2e9 * l.blocks * static_cast<double>(p.batch);
    // Tasks are dealt in whole numbers.
    const double tasks = static_cast<double>(p.batch) * ((l.blocks + group - 1) / group) *
                         (threads > 1 ? std::min(row_groups, 4.0 * threads) : 1);
    const double busy = tasks / (std::ceil(tasks / threads) * threads);
    return std::max(seconds / threads / busy, bytes / 30e9);
  }
};

}  // namespace

const Algorithm& direct_algorithm() {
  static const DirectAlgorithm algorithm;
  return algorithm;
}

}  // namespace replk::depthwise
