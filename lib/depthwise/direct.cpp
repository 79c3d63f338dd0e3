#include "depthwise/direct.hpp"

#include <algorithm>
#include <cmath>
#include <memory>
#include <numeric>

#include "depthwise/direct_executor.hpp"
#include "depthwise/direct_geometry.hpp"
#include "jit/direct.hpp"

namespace replk::depthwise {
namespace {

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
    const auto parameters = DirectParameters::read(tiling);
    return isa != Isa::portable && parameters && direct_memory_fits(problem, geometry, *parameters, isa) &&
           direct_code_fits(problem, geometry, DirectTaps(geometry), *parameters, isa);
  }

  std::vector<Candidate> candidates(const Problem& problem, const Kernel& geometry, Isa isa,
                                    int threads) const override {
    std::vector<Candidate> found;
    if (isa == Isa::portable) return found;
    const DirectTaps taps(geometry);
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
        const DirectParameters tile{rows, columns, true, 1};
        if (!jit::direct_fits(isa, rows, columns, problem.epilogue.activation) ||
            !direct_code_fits(problem, geometry, taps, tile, isa))
          continue;
        const double cycles =
            tile_cycles(direct_specification(problem, geometry, taps, tile, isa, rows, false));
        for (bool ring : {true, false})
          for (int group : {1, 2, 4, 8, 16, 64}) {
            if (group > 1 && group / 2 >= blocks) continue;
            if (ring && group > 8) continue;
            const DirectParameters parameters{rows, columns, ring, group};
            if (direct_memory_fits(problem, geometry, parameters, isa))
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
    return std::make_unique<DirectExecutor>(problem, kernel, DirectParameters::read(tiling).value(), isa);
  }

 private:
  static double predict(const Problem& p, const Kernel& k, const DirectParameters& t, Isa isa, int threads,
                        double group_cycles) {
    const DirectLayout l(p, k, t, isa);
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
    return std::max(seconds / busy, bytes / 30e9) / threads;  // what a core moves, cores move side by side
  }
};

}  // namespace

const Algorithm& direct_algorithm() {
  static const DirectAlgorithm algorithm;
  return algorithm;
}

}  // namespace replk::depthwise
