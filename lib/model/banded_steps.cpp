#include "model/banded_steps.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <utility>

#include "core/clock.hpp"
#include "core/memory.hpp"
#include "core/threads.hpp"

namespace replk::model {
BandedSteps::BandedSteps(const Graph& graph, const std::vector<Parameters>& parameters,
                         const std::vector<MapSize>& sizes, const std::vector<LayerFlow>& flow,
                         const Chain& chain, const StepOptions& options)
    : chain_(chain), threads_(options.threads) {
  const Layer &first = graph.layers[chain.first], &last = graph.layers[chain.end - 1];
  const MapSize &in = sizes[first.src], &out = sizes[last.dst];
  images_ = in.batch;
  src_values_ = std::int64_t{in.width} * first.inputs;
  src_rows_ = in.height;
  dst_values_ = std::int64_t{out.width} * last.outputs;
  dst_rows_ = out.height;
  for (int band = 0; band < chain.bands; band++) {
    std::vector<BandRows> rows = rows_of_band(graph, sizes, chain, band);
    const auto same = std::find_if(kinds_.begin(), kinds_.end(),
                                   [&](const Kind& kind) { return same_shape(kind.rows, rows); });
    bands_.push_back(
        {static_cast<std::size_t>(same - kinds_.begin()), rows.front().begin, rows.back().begin});
    if (same == kinds_.end()) prepare_kind(graph, parameters, sizes, flow, std::move(rows), options);
  }
}

void BandedSteps::prepare_kind(const Graph& graph, const std::vector<Parameters>& parameters,
                               const std::vector<MapSize>& sizes, const std::vector<LayerFlow>& flow,
                               std::vector<BandRows> rows, const StepOptions& options) {
  StepOptions of_thread = options;
  of_thread.threads = 1;
  Kind kind{std::move(rows), {}};
  for (std::size_t i = chain_.first; i < chain_.end; i++) {
    const Layer& layer = graph.layers[i];
    const std::size_t k = i - chain_.first;
    const MapSize in{1, kind.rows[k].count(), sizes[layer.src].width};
    const Parameters* next =
        flow[i].copy_for < 0 ? nullptr : &parameters[static_cast<std::size_t>(flow[i].copy_for)];
    kind.steps.push_back(
        prepare_step(layer, parameters[i], in, {flow[i], next, kind.rows[k].padding}, of_thread));
    step_bytes_ = std::max(step_bytes_, kind.steps.back()->scratch_bytes());
    if (i + 1 == chain_.end) break;
    const std::size_t values = std::size_t(kind.rows[k + 1].count()) * std::size_t(sizes[layer.dst].width) *
                               std::size_t(layer.outputs);
    map_bytes_[k % 2] = std::max(map_bytes_[k % 2], core::round_up(values * sizeof(float), 4096));
  }
  kinds_.push_back(std::move(kind));
}

std::size_t BandedSteps::thread_bytes() const {
  return core::round_up(map_bytes_[0] + map_bytes_[1] + step_bytes_, 4096) + core::scratch_gap;
}
std::size_t BandedSteps::scratch_bytes() const {
  return thread_bytes() * static_cast<std::size_t>(threads_);
}

std::string BandedSteps::choice(std::size_t layer) const {
  const Band& usual = bands_[bands_.size() / 2];
  return fmt::format("{} bands={}", kinds_[usual.kind].steps[layer - chain_.first]->choice(), bands_.size());
}

void BandedSteps::run(const StepRun& whole, std::vector<double>* seconds) const {
  const auto start = seconds ? core::seconds() : 0;
  const std::size_t layers = chain_.end - chain_.first;
  std::vector<double> of_threads;
  if (seconds) of_threads.resize(layers * static_cast<std::size_t>(threads_));
  const auto bands = static_cast<std::int64_t>(bands_.size());
  core::parallel_for(images_ * bands, threads_, [&](std::int64_t task, int thread) {
    const auto t = static_cast<std::size_t>(thread);
    run_band(whole, task / bands, bands_[static_cast<std::size_t>(task % bands)],
             static_cast<char*>(whole.scratch) + t * thread_bytes(),
             seconds ? of_threads.data() + t * layers : nullptr);
  });
  if (!seconds) return;
  seconds->assign(layers, 0);
  double all = 0;
  for (std::size_t i = 0; i < of_threads.size(); i++) {
    (*seconds)[i % layers] += of_threads[i];
    all += of_threads[i];
  }
  const double took = core::seconds() - start;
  for (double& share : *seconds) share *= took / std::max(all, 1e-12);
}

void BandedSteps::run_band(const StepRun& whole, std::int64_t image, const Band& band, char* scratch,
                           double* seconds) const {
  const Kind& kind = kinds_[band.kind];
  char* const maps[2] = {scratch, scratch + map_bytes_[0]};
  const std::int64_t at = (image * dst_rows_ + band.dst_row) * dst_values_;
  ConstValues src = whole.src + (image * src_rows_ + band.src_row) * src_values_;
  for (std::size_t k = 0; k < kind.steps.size(); k++) {
    const auto start = seconds ? core::seconds() : 0;
    StepRun run{
        src, reinterpret_cast<float*>(maps[k % 2]), {}, nullptr, scratch + map_bytes_[0] + map_bytes_[1]};
    if (k + 1 == kind.steps.size()) {
      run.dst = whole.dst ? whole.dst + at : nullptr;
      if (whole.copy) run.copy = whole.copy + at;
    }
    kind.steps[k]->run(run);
    src = run.dst;
    if (seconds) seconds[k] += core::seconds() - start;
  }
}

}  // namespace replk::model
