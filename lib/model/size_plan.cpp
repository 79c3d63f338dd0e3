#include "model/size_plan.hpp"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstring>
#include <new>

#include "core/clock.hpp"
#include "core/cpu.hpp"
#include "core/error.hpp"
#include "core/threads.hpp"
#include "core/tile_order.hpp"

namespace replk::model {
namespace {

/// What takes a pixel's channels to mean 0 and variance 1.
struct Standardisation {
  float mean = 0, factor = 1;
};
Standardisation standardisation_of(const float* pixel, int channels) {
  constexpr double epsilon = 1e-6;  // of every backbone's norms
  double sum = 0, squares = 0;
  for (int c = 0; c < channels; ++c) sum += pixel[c];
  const double mean = sum / channels;
  for (int c = 0; c < channels; ++c) squares += (pixel[c] - mean) * (pixel[c] - mean);
  return {static_cast<float>(mean), static_cast<float>(1 / std::sqrt(squares / channels + epsilon))};
}

/// [batch][pixels][channels] to [batch][channels][pixels], through the norm where there is one. Blocks of
/// pixels keep the lines they read in the first cache while all channels are written.
void write_feature(const float* src, float* dst, const MapSize& size, int channels, const FeatureNorm& norm,
                   int threads) {
  constexpr std::int64_t block = 64;
  const Affine& affine = norm.affine;
  const std::int64_t pixels = std::int64_t{size.height} * size.width, blocks = (pixels + block - 1) / block;
  const auto body = [&](std::int64_t i, int) {
    const std::int64_t image = i / blocks, first = i % blocks * block, last = std::min(pixels, first + block);
    const float* in = src + image * pixels * channels;
    float* out = dst + image * pixels * channels;
    std::array<Standardisation, block> standard{};
    if (norm.over_channels)
      for (std::int64_t p = first; p < last; ++p)
        standard[static_cast<std::size_t>(p - first)] = standardisation_of(in + p * channels, channels);
    for (int c = 0; c < channels; ++c) {
      const float scale = affine.scale.empty() ? 1.0f : static_cast<float>(affine.scale[c]);
      const float offset = affine.scale.empty() ? 0.0f : static_cast<float>(affine.offset[c]);
      for (std::int64_t p = first; p < last; ++p) {
        const auto [mean, factor] = standard[static_cast<std::size_t>(p - first)];
        const float value = in[p * channels + c];
        out[c * pixels + p] = affine.scale.empty() ? value : (value - mean) * factor * scale + offset;
      }
    }
  };
  core::parallel_for(size.batch * blocks, threads, body);
}

}  // namespace

SizePlan::SizePlan(const Graph& graph, const std::vector<Parameters>& parameters, const MapSize& input,
                   const StepOptions& options)
    : input_(input), options_(options), sizes_(graph.values.size()) {
  sizes_[0] = input;
  for (const Layer& layer : graph.layers) sizes_[layer.dst] = output_size(layer, sizes_[layer.src]);
  std::vector<Precision> precision;
  for (const Parameters& layer : parameters) precision.push_back(layer.precision);
  flow_ = plan_flow(graph, precision, [&](int layer) {
    const auto& [scale, offset] = parameters[static_cast<std::size_t>(layer)].quantiser;
    return std::all_of(offset.begin(), offset.end(), [](float value) { return value == 0; }) &&
           std::all_of(scale.begin(), scale.end(), [](float value) { return value > 0; });
  });
  steps_.resize(graph.layers.size());
  // Depthwise layers last: while a dense layer's matrix is packed it is in memory twice, which should not
  // come on top of the packed kernels.
  for (const bool depthwise : {false, true})
    for (std::size_t i = 0; i < graph.layers.size(); ++i) {
      const Layer& layer = graph.layers[i];
      if (layer.is<Depthwise>() != depthwise) continue;
      const MapSize& in = sizes_[layer.src];
      const LayerFlow& flow = flow_[i];
      const Parameters* next =
          flow.copy_for < 0 ? nullptr : &parameters[static_cast<std::size_t>(flow.copy_for)];
      steps_[i] = {prepare_step(layer, parameters[i], in, {flow, next}, options),
                   macs_of(layer, parameters[i], in)};
    }
  for (const Chain& chain : find_chains(graph, flow_, sizes_, core::cpu().l2_bytes))
    banded_.emplace_back(graph, parameters, sizes_, flow_, chain, options);
  for (std::size_t i = 1; i < steps_.size(); ++i)
    steps_[i - 1].step->prefetch_next(steps_[i].step->prefetch());
  plan_memory(graph);
}

int SizePlan::last_read(int layer) const {
  for (const BandedSteps& banded : banded_)
    if (banded.chain().first == static_cast<std::size_t>(layer))
      return static_cast<int>(banded.chain().end) - 1;
  return layer;
}

void SizePlan::plan_memory(const Graph& graph) {
  std::vector<int> last_use(graph.values.size(), -1);
  for (int i = 0; i < static_cast<int>(graph.layers.size()); ++i) {
    const Layer& layer = graph.layers[i];
    const LayerFlow& flow = flow_[i];
    for (int value :
         {flow.src == Element::f32 ? layer.src : -1, flow.result ? layer.dst : -1, layer.residual})
      if (value >= 0) last_use[value] = std::max(last_use[value], last_read(i));
  }
  // Values that share a buffer: a residual that is not needed any more becomes the sum, which saves a copy as
  // well.
  std::vector<int> buffer_of(graph.values.size(), -1), copy_of(graph.layers.size(), -1);
  std::vector<Lifetime> buffers;
  for (int i = 0; i < static_cast<int>(graph.layers.size()); ++i) {
    const Layer& layer = graph.layers[i];
    const auto elements = static_cast<std::size_t>(sizes_[layer.dst].pixels()) * layer.outputs;
    if (flow_[i].copy != Element::f32) {
      copy_of[i] = static_cast<int>(buffers.size());
      buffers.push_back({core::tensor_bytes(sizes_[layer.dst].pixels(), layer.outputs, flow_[i].copy), i,
                         last_read(flow_[i].copy_for)});
    }
    if (!flow_[i].result || buffer_of[layer.dst] >= 0) continue;  // in place
    const bool reuses = layer.residual > 0 && last_use[layer.residual] == i;
    if (reuses) {
      buffer_of[layer.dst] = buffer_of[layer.residual];
      Lifetime& life = buffers[buffer_of[layer.dst]];
      life.last = std::max(life.last, last_use[layer.dst]);
      continue;
    }
    buffer_of[layer.dst] = static_cast<int>(buffers.size());
    buffers.push_back({elements * sizeof(float), i, std::max(i, last_use[layer.dst])});
  }
  const ArenaPlan arena = plan_arena(buffers);
  offsets_.assign(graph.values.size(), 0);
  copy_offsets_.assign(graph.layers.size(), 0);
  for (std::size_t v = 1; v < graph.values.size(); ++v)
    if (buffer_of[v] >= 0) offsets_[v] = arena.offsets[buffer_of[v]];
  for (std::size_t i = 0; i < graph.layers.size(); ++i)
    if (copy_of[i] >= 0) copy_offsets_[i] = arena.offsets[copy_of[i]];
  std::size_t scratch = 0;
  for (const PlannedStep& planned : steps_) scratch = std::max(scratch, planned.step->scratch_bytes());
  for (const BandedSteps& banded : banded_) scratch = std::max(scratch, banded.scratch_bytes());
  scratch_offset_ = core::round_up(arena.bytes, core::alignment);
  arena_bytes_ = scratch_offset_ + scratch;
}

SizePlan::Arena SizePlan::take_arena() {
  {
    const std::lock_guard lock(mutex_);
    if (!free_arenas_.empty()) {
      Arena arena = std::move(free_arenas_.back());
      free_arenas_.pop_back();
      return arena;
    }
  }
  return Arena(arena_bytes_);
}

void SizePlan::return_arena(Arena arena) noexcept try {
  const std::lock_guard lock(mutex_);
  free_arenas_.push_back(std::move(arena));
} catch (const std::bad_alloc&) {  // no memory to remember it: it is freed instead
}

StepRun SizePlan::run_of(const Graph& graph, std::size_t i, const Input& input, char* arena) const {
  const Layer& layer = graph.layers[i];
  const LayerFlow& flow = flow_[i];
  const auto at = [&](int value) { return reinterpret_cast<float*>(arena + offsets_[value]); };
  ConstValues src = layer.src == 0 ? input.pixels : at(layer.src);
  if (flow.copy_from >= 0) src = {arena + copy_offsets_[flow.copy_from], flow.src};
  return {src, flow.result ? at(layer.dst) : nullptr,
          flow.copy == Element::f32 ? Values() : Values(arena + copy_offsets_[i], flow.copy),
          layer.residual < 0 ? nullptr : at(layer.residual), arena + scratch_offset_};
}

LayerProfile SizePlan::profile_of(const Graph& graph, std::size_t i, double seconds) const {
  const Layer& layer = graph.layers[i];
  const Step& step = *steps_[i].step;
  return {layer.name, step.shape(), step.choice(), kind_of(layer), seconds, steps_[i].macs};
}

void SizePlan::run_banded(const Graph& graph, const BandedSteps& banded, const Input& input, char* arena,
                          Profile* profile) const {
  const auto [first, end, rows, bands] = banded.chain();
  StepRun whole = run_of(graph, end - 1, input, arena);
  whole.src = run_of(graph, first, input, arena).src;
  std::vector<double> seconds;
  banded.run(whole, profile != nullptr ? &seconds : nullptr);
  for (std::size_t i = first; i < end && profile != nullptr; ++i) {
    profile->layers.push_back(profile_of(graph, i, seconds[i - first]));
    profile->layers.back().choice = banded.choice(i);
  }
}

void SizePlan::run(const Graph& graph, const Input& input, const Output& output, const FeatureNorms& norms,
                   const RunOptions& options) {
  struct Loan {
    SizePlan& plan;
    Arena arena;
    ~Loan() { plan.return_arena(std::move(arena)); }
  } loan{*this, take_arena()};
  char* const arena = loan.arena.data();
  const auto at = [&](int value) { return reinterpret_cast<float*>(arena + offsets_[value]); };

  if (options.profile != nullptr) options.profile->layers.clear();
  const std::size_t end = output.logits != nullptr ? graph.layers.size() : graph.features_end;
  auto banded = banded_.begin();
  for (std::size_t i = 0; i < end; ++i) {
    if (options.cancel != nullptr && options.cancel->load(std::memory_order_relaxed))
      core::fail(core::Status::cancelled, "the run was cancelled");
    if (options.observe != nullptr) {
      const Layer& layer = graph.layers[i];
      (*options.observe)(static_cast<int>(i), layer.src == 0 ? input.pixels : at(layer.src),
                         sizes_[layer.src].pixels());
    }
    if (options.observe == nullptr && banded != banded_.end() && banded->chain().first == i) {
      run_banded(graph, *banded, input, arena, options.profile);
      i = banded->chain().end - 1;
      ++banded;
    } else {
      const auto start = options.profile != nullptr ? core::seconds() : 0;
      steps_[i].step->run(run_of(graph, i, input, arena));
      if (options.profile != nullptr)
        options.profile->layers.push_back(profile_of(graph, i, core::seconds() - start));
    }
    const Layer& layer = graph.layers[i];
    for (int s = 0; s < 4; ++s)
      if (output.features[s] != nullptr && graph.stages[s].value == layer.dst)
        write_feature(at(layer.dst), output.features[s], sizes_[layer.dst], layer.outputs, norms[s],
                      options_.threads);
  }
  if (output.logits != nullptr)
    std::memcpy(output.logits, at(graph.logits),
                static_cast<std::size_t>(input_.batch) * graph.values[graph.logits].channels * sizeof(float));
}

}  // namespace replk::model
