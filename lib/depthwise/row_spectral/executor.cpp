#include "depthwise/row_spectral/executor.hpp"

#include <algorithm>
#include <utility>

#include "core/memory.hpp"
#include "core/threads.hpp"
#include "simd/finish.hpp"
#include "simd/rows.hpp"

namespace replk::depthwise {
namespace {

constexpr const RowSpectralConstants& constants = row_spectral_constants;
constexpr int rows_a_share = constants.rows_a_share, pairs_a_share = constants.pairs_a_share;

int shares(int count, int each) {
  return (count + each - 1) / each;
}

/// Of the planes. Where several segments share weights, none is negated.
std::vector<int> signs_of(const RowSpectralGeometry& g) {
  return g.along_segments.size() == 1 ? jit::row_signs(g.forward(g.along_segments[0], false))
                                      : std::vector<int>(g.parameters.transform.planes(), 1);
}

}  // namespace

template <class Function>
Function RowSpectralExecutor::code(const std::string& spec,
                                   const std::function<std::vector<std::uint8_t>()>& generate) {
  code_.push_back(jit::get_code(spec, generate));
  return code_.back()->entry<Function>();
}

RowSpectralExecutor::RowSpectralExecutor(const RowSpectralGeometry& geometry, const Kernel& kernel)
    : RowSpectralExecutor(geometry, std::make_shared<Spectra>(geometry, kernel, signs_of(geometry)),
                          signs_of(geometry)) {}

/// A turned row has the conjugate of the row's spectrum. What is multiplied here is conjugate as well, on
/// both sides: of each pair of planes the second one is negated.
std::unique_ptr<RowSpectralExecutor> RowSpectralExecutor::turned(RowSpectralGeometry geometry,
                                                                 const RowSpectralExecutor& layer) {
  if (!layer.geometry_.turned_signs.empty() || !geometry.shares_weights(layer.geometry_)) return nullptr;
  std::vector<int> signs = signs_of(layer.geometry_);
  for (int plane = geometry.parameters.transform.reals() + 1; plane < geometry.parameters.transform.planes();
       plane += 2)
    signs[plane] = -signs[plane];
  geometry.turned_signs = signs;
  return std::unique_ptr<RowSpectralExecutor>(new RowSpectralExecutor(geometry, layer.spectra_, signs));
}

RowSpectralExecutor::RowSpectralExecutor(const RowSpectralGeometry& geometry,
                                         std::shared_ptr<Spectra> spectra, const std::vector<int>& signs)
    : geometry_(geometry),
      window_in_(geometry.window(false)),
      window_out_(geometry.window(true)),
      input_(input_rows(geometry.problem)),
      output_(output_rows(geometry.problem)),
      spectra_(std::move(spectra)),
      no_bias_(geometry.turned_signs.empty()
                   ? 0
                   : static_cast<std::size_t>(geometry.all_blocks()) * geometry.lanes,
               true) {
  const RowSpectralGeometry& g = geometry_;
  const bool direct = !g.buffered() && g.whole_blocks() > 0, buffered = g.buffered() || g.tail_channels() > 0;
  const auto forward = [&](const Segment& s, bool buffer) {
    const jit::RowForwardSpec spec = g.forward(s, buffer);
    return code<jit::RowForward>(spec.text(), [&] { return jit::generate(spec); });
  };
  const auto inverse = [&](const Segment& s, bool buffer) {
    const jit::RowInverseSpec spec = g.inverse(s, buffer, signs);
    return code<jit::RowInverse>(spec.text(), [&] { return jit::generate(spec); });
  };
  for (const auto& [s, begin, count] : g.along_segments.runs()) {
    RowCode row;
    if (direct) row.forward = forward(s, false), row.inverse = inverse(s, false);
    if (buffered) row.forward_buffered = forward(s, true), row.inverse_buffered = inverse(s, true);
    rows_.push_back(row);
  }
  for (const auto& [s, begin, count] : g.across_segments.runs()) {
    columns_.push_back(g.parameters.columns->code(g, s));
    column_scratch_ = std::max(column_scratch_, columns_.back()->scratch_bytes());
  }
  column_scratch_ = core::round_up(column_scratch_, core::alignment);
  for (const auto& code : code_) code_bytes_.push_back(code->bytes());
  for (const auto& columns : columns_)
    for (const jit::Code* code : columns->code()) code_bytes_.push_back(code->bytes());
}

std::int64_t RowSpectralExecutor::tasks(std::int64_t batch) const {
  return batch * geometry_.along_segments.size() * geometry_.across_segments.size() * geometry_.groups();
}

// Whole tasks leave threads idle in the last round; passes cost two barriers more.
bool RowSpectralExecutor::by_phases(std::int64_t batch, int threads) const {
  const std::int64_t tasks = this->tasks(batch), rounds = (tasks + threads - 1) / threads;
  return threads > 1 && tasks < std::int64_t{constants.few_tasks} * threads &&
         rounds * threads * constants.of_rounds > tasks * constants.most_rounds;
}

RowSpectralExecutor::Task RowSpectralExecutor::task(std::int64_t index) const {
  const auto take = [&](std::int64_t count) {
    const std::int64_t part = index % count;
    index /= count;
    return static_cast<int>(part);
  };
  Task t;
  // All channels of a part of the map come before the next part, so that a large map streams through the
  // caches once.
  t.group = take(geometry_.groups());
  t.across = take(geometry_.across_segments.size());
  t.along = take(geometry_.along_segments.size());
  t.image = index;
  return t;
}

RowSpectralExecutor::Group RowSpectralExecutor::group(int index) const {
  const RowSpectralGeometry& g = geometry_;
  Group group;
  group.block = std::min(index * g.parameters.blocks, g.whole_blocks());
  group.channel = group.block * g.lanes;
  if (index < g.whole_groups()) {
    group.blocks = std::min(g.parameters.blocks, g.whole_blocks() - group.block);
    group.channels = group.blocks * g.lanes;
    group.buffered = g.buffered();
  } else {
    group.blocks = 1;
    group.channels = g.tail_channels();
    group.buffered = true;
  }
  return group;
}

std::int64_t RowSpectralExecutor::element(const Task& t, bool output, int pixel, int row, int channel) const {
  const bool h = geometry_.parameters.along_h;
  return (output ? output_ : input_).at(t.image, h ? pixel : row, channel, h ? row : pixel);
}

RowSpectralExecutor::Part RowSpectralExecutor::part(bool output, int rows, int pixels) const {
  Part part{output ? output_ : input_, rows};
  part.layout.width = pixels;
  if (geometry_.parameters.along_h) std::swap(part.layout.width, part.height);
  return part;
}

/// Rows begin..end-1 of the segment's inputs.
void RowSpectralExecutor::forward(const Task& t, const Tensors& tensors, int begin, int end, char* planes,
                                  float* buffer) const {
  const RowSpectralGeometry& g = geometry_;
  const Segment along = g.along_segments[t.along], across = g.across_segments[t.across];
  const RowCode& row_code = rows_[g.along_segments.run_of(t.along)];
  const Group group = this->group(t.group);
  const auto size = static_cast<std::int64_t>(size_of(g.problem.type));
  if (begin >= end) return;
  if (!group.buffered) {
    const auto* src = static_cast<const char*>(tensors.src) +
                      size * element(t, false, along.in, across.in + begin, group.channel);
    row_code.forward(src, planes + std::int64_t{begin} * g.vector_bytes, end - begin, group.blocks);
    return;
  }
  const RowSpectralGeometry::Window& w = window_in_;
  for (int b = 0; b < group.blocks; b += w.blocks) {
    const int channels = std::min(group.channels - b * g.lanes, w.blocks * g.lanes);
    for (int r = begin; r < end; r += w.rows) {
      const int rows = std::min(w.rows, end - r);
      const auto [layout, height] = part(false, rows, along.ins);
      const int channel = group.channel + b * g.lanes;
      simd::pack_rows(layout, tensors.src,
                      {element(t, false, along.in, across.in + r, channel), channels, height, channel},
                      buffer, {g.lanes, w.block_stride, w.row_stride});
      row_code.forward_buffered(buffer, planes + b * g.block_stride + std::int64_t{r} * g.vector_bytes, rows,
                                std::min(group.blocks - b, w.blocks));
    }
  }
}

/// Frequencies begin..end-1 of one block, counted in pairs of planes; the planes that are their own pair go
/// with the first.
void RowSpectralExecutor::multiply(const Task& t, int block, int begin, int end, const char* in, char* out,
                                   char* scratch) const {
  const RowSpectralGeometry& g = geometry_;
  const int reals = begin == 0 ? g.parameters.transform.reals() : 0;
  const float* weights = spectra_->block(group(t.group).block + block);
  in += block * g.block_stride;
  out += block * g.block_stride;
  if (begin > 0) {
    const std::int64_t planes = g.parameters.transform.reals() + 2 * std::int64_t{begin};
    in += planes * g.plane_stride;
    out += planes * g.plane_stride;
    weights += g.parameters.transform.reals() * g.real_floats() + g.pair_floats() * begin;
  }
  columns_[g.across_segments.run_of(t.across)]->run(in, out, weights, reals, end - begin, scratch);
}

/// Rows begin..end-1 of the segment's outputs.
void RowSpectralExecutor::inverse(const Task& t, const Tensors& tensors, int begin, int end,
                                  const char* planes, float* buffer) const {
  const RowSpectralGeometry& g = geometry_;
  const Segment along = g.along_segments[t.along], across = g.across_segments[t.across];
  const RowCode& row_code = rows_[g.along_segments.run_of(t.along)];
  const Group group = this->group(t.group);
  const float* bias =
      (g.turned_signs.empty() ? spectra_->bias() : no_bias_.data()) + std::int64_t{group.block} * g.lanes;
  const auto* residual = g.problem.epilogue.residual ? static_cast<const char*>(tensors.residual) : nullptr;
  if (begin >= end) return;
  if (!group.buffered) {
    const std::int64_t at = static_cast<std::int64_t>(size_of(g.problem.output_type())) *
                            element(t, true, along.out, across.out + begin, group.channel);
    row_code.inverse(planes + std::int64_t{begin} * g.vector_bytes, static_cast<char*>(tensors.dst) + at,
                     bias, residual ? residual + at : nullptr, end - begin, group.blocks);
    return;
  }
  const RowSpectralGeometry::Window& w = window_out_;
  const simd::PackedRows packed{g.lanes, w.block_stride, w.row_stride};
  float* added = residual ? buffer + w.block_stride * w.blocks : nullptr;
  for (int b = 0; b < group.blocks; b += w.blocks) {
    const int channels = std::min(group.channels - b * g.lanes, w.blocks * g.lanes),
              blocks = std::min(group.blocks - b, w.blocks);
    for (int r = begin; r < end; r += w.rows) {
      const int rows = std::min(w.rows, end - r);
      const auto [layout, height] = part(true, rows, along.outs);
      const simd::TensorRows written{element(t, true, along.out, across.out + r, group.channel + b * g.lanes),
                                     channels, height};
      if (added) simd::pack_rows(layout, residual, written, added, packed);
      simd::expect_rows(layout, tensors.dst, written);
      row_code.inverse_buffered(planes + b * g.block_stride + std::int64_t{r} * g.vector_bytes, buffer,
                                bias + b * g.lanes, added, rows, blocks);
      if (!g.finished()) finish_rows(group.block + b, blocks, height, layout.width, buffer, added);
      simd::unpack_rows(layout, buffer, packed, tensors.dst, written);
    }
  }
}

std::size_t RowSpectralExecutor::private_bytes() const {
  return std::max(core::round_up(geometry_.buffer_bytes(), core::alignment), column_scratch_);
}

void RowSpectralExecutor::finish_rows(int block, int blocks, int height, int width, float* out,
                                      const float* residual) const {
  const RowSpectralGeometry& g = geometry_;
  for (int b = 0; b < blocks; b++)
    for (int r = 0; r < height; r++) {
      const std::int64_t row = b * window_out_.block_stride + r * window_out_.row_stride;
      simd::finish(g.problem.epilogue.activation,
                   spectra_->scale() ? spectra_->scale() + std::int64_t{block + b} * g.lanes : nullptr,
                   residual ? residual + row : nullptr, g.lanes, out + row, std::int64_t{width} * g.lanes);
    }
}

std::size_t RowSpectralExecutor::task_bytes() const {
  return core::round_up(geometry_.planes_bytes(), core::alignment) + private_bytes() + core::scratch_gap;
}

std::size_t RowSpectralExecutor::workspace_bytes(int threads) const {
  const std::size_t tasks = static_cast<std::size_t>(threads) * task_bytes();
  // The largest batch that goes by phases needs the most for them.
  for (std::int64_t batch = constants.few_tasks * threads / this->tasks(1) + 1; batch > 0; batch--)
    if (by_phases(batch, threads))
      return std::max(tasks, static_cast<std::size_t>(this->tasks(batch)) * 2 *
                                     core::round_up(geometry_.planes_bytes(), core::alignment) +
                                 static_cast<std::size_t>(threads) * private_bytes());
  return tasks;
}

// In a network the layers in between have thrown code out of the L2, from where instructions are fetched line
// by line, each waiting for the one before: all of them at once take as long as a few of those.
void RowSpectralExecutor::run(const Tensors& tensors, const Run& run) const {
  for (const auto& bytes : code_bytes_) core::prefetch_near(bytes);
  if (by_phases(run.batch, run.threads)) return run_by_phases(tensors, run);
  const std::size_t each = task_bytes();
  const auto body = [&](std::int64_t index, int thread) {
    run_task(tensors, static_cast<char*>(run.workspace) + each * static_cast<std::size_t>(thread), index);
  };
  core::parallel_for(tasks(run.batch), run.threads, std::ref(body));
}

ChannelTasks RowSpectralExecutor::channel_tasks(std::int64_t batch, int threads) const {
  const RowSpectralGeometry& g = geometry_;
  if (by_phases(batch, threads) || g.along_segments.size() > 1 || g.across_segments.size() > 1) return {};
  return {tasks(batch), g.parameters.blocks * g.lanes};
}

void RowSpectralExecutor::run_task(const Tensors& tensors, void* workspace, std::int64_t index) const {
  const RowSpectralGeometry& g = geometry_;
  const Task t = task(index);
  char* const planes = static_cast<char*>(workspace);
  char* const own = planes + core::round_up(g.planes_bytes(), core::alignment);
  auto* const buffer = reinterpret_cast<float*>(own);
  char* const shifted = planes + 2 * g.plane_stride;  // where results overwrite what has been read
  forward(t, tensors, 0, g.across_segments[t.across].ins, shifted, buffer);
  for (int b = 0; b < group(t.group).blocks; b++)
    multiply(t, b, 0, g.parameters.transform.pairs(), shifted, planes, own);
  inverse(t, tensors, 0, g.across_segments[t.across].outs, planes, buffer);
}

void RowSpectralExecutor::run_by_phases(const Tensors& tensors, const Run& run) const {
  const RowSpectralGeometry& g = geometry_;
  const std::int64_t tasks = this->tasks(run.batch);
  char* const workspace = static_cast<char*>(run.workspace);
  const std::size_t planes_bytes = core::round_up(g.planes_bytes(), core::alignment);
  const auto in = [&](std::int64_t index) { return workspace + 2 * planes_bytes * index; };
  const auto out = [&](std::int64_t index) { return in(index) + planes_bytes; };
  const auto own = [&](int thread) { return in(tasks) + private_bytes() * static_cast<std::size_t>(thread); };
  const auto buffer = [&](int thread) { return reinterpret_cast<float*>(own(thread)); };
  const int in_shares = shares(g.across_segments.most_ins(), rows_a_share),
            out_shares = shares(g.across_segments.most_outs(), rows_a_share);
  const int pairs = g.parameters.transform.pairs(), pair_shares = shares(std::max(pairs, 1), pairs_a_share);

  const auto rows = [&](std::int64_t i, int thread) {
    const Task t = task(i / in_shares);
    const int begin = static_cast<int>(i % in_shares) * rows_a_share;
    forward(t, tensors, begin, std::min(begin + rows_a_share, g.across_segments[t.across].ins),
            in(i / in_shares), buffer(thread));
  };
  core::parallel_for(tasks * in_shares, run.threads, std::ref(rows));
  const auto planes = [&](std::int64_t i, int thread) {
    const std::int64_t index = i / (pair_shares * g.parameters.blocks);
    const int block = static_cast<int>(i / pair_shares % g.parameters.blocks);
    const int begin = static_cast<int>(i % pair_shares) * pairs_a_share;
    const Task t = task(index);
    if (block < group(t.group).blocks)
      multiply(t, block, begin, std::min(begin + pairs_a_share, pairs), in(index), out(index), own(thread));
  };
  core::parallel_for(tasks * g.parameters.blocks * pair_shares, run.threads, std::ref(planes));
  const auto back = [&](std::int64_t i, int thread) {
    const Task t = task(i / out_shares);
    const int begin = static_cast<int>(i % out_shares) * rows_a_share;
    inverse(t, tensors, begin, std::min(begin + rows_a_share, g.across_segments[t.across].outs),
            out(i / out_shares), buffer(thread));
  };
  core::parallel_for(tasks * out_shares, run.threads, std::ref(back));
}

std::vector<Phase> RowSpectralExecutor::phases(int threads) const {
  const std::int64_t batch = geometry_.problem.batch, tasks = this->tasks(batch);
  if (!by_phases(batch, threads)) return {{"rows, planes and rows of a group", tasks}};
  const RowSpectralGeometry& g = geometry_;
  const int pair_shares = shares(std::max(g.parameters.transform.pairs(), 1), pairs_a_share);
  return {{"rows", tasks * shares(g.across_segments.most_ins(), rows_a_share)},
          {"planes", tasks * g.parameters.blocks * pair_shares},
          {"rows back", tasks * shares(g.across_segments.most_outs(), rows_a_share)}};
}

Work RowSpectralExecutor::work() const {
  const RowSpectralGeometry& g = geometry_;
  Work work;
  const double vectors = static_cast<double>(g.problem.batch) * g.all_blocks();
  const auto count = [&](const jit::Counts& c, double times) {
    work.fma += c.multiplies * times * vectors * g.lanes;
    work.add += c.adds * times * vectors * g.lanes;
  };
  const std::vector<int> signs(g.parameters.transform.planes(), 1);
  double ins = 0, outs = 0;  // of a column of segments
  for (const auto& [s, begin, times] : g.across_segments.runs()) {
    const double here = static_cast<double>(times) * g.along_segments.size();
    count(jit::count_real(g.toeplitz(s)), here * g.parameters.transform.reals());
    count(g.parameters.columns->pair(g, s).each, here * g.parameters.transform.pairs());
    ins += static_cast<double>(times) * s.ins;
    outs += static_cast<double>(times) * s.outs;
  }
  for (const auto& [s, begin, times] : g.along_segments.runs()) {
    count(jit::count(g.forward(s, false)), times * ins);
    count(jit::count(g.inverse(s, false, signs)), times * outs);
  }
  work.bytes_read = bytes_read(g.problem) + 4.0 * static_cast<double>(spectra_->weights().size());
  work.bytes_written = bytes_written(g.problem);
  return work;
}

std::size_t RowSpectralExecutor::prepared_bytes() const {
  std::size_t bytes = geometry_.turned_signs.empty() ? spectra_->bytes() : 0;  // those of others' memory
  for (const auto& code : code_bytes_) bytes += code.size();
  return bytes;
}

}  // namespace replk::depthwise
