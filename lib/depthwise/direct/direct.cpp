#include <algorithm>
#include <cmath>
#include <memory>
#include <numeric>

#include "depthwise/direct/direct.hpp"
#include "depthwise/direct/executor.hpp"
#include "depthwise/direct/geometry.hpp"
#include "jit/kernels/direct.hpp"

namespace replk::depthwise {
namespace {

/// Cycles of one row group of one channel block, from what a core can start in a cycle: two multiply-adds,
/// two loads, one store; a multiply-add takes four cycles, so that few sums wait for each other. The rest is
/// measured, AVX2 on Zen 3 and AVX-512 on Emerald Rapids, whose larger window overlaps tiles and hides most
/// of their ends.
double tile_cycles(const jit::DirectSpec& spec) {
  const jit::DirectPhases phases = jit::direct_phases(spec);
  const bool wide = spec.isa == Isa::avx512;
  const bool loads_once = spec.rows * spec.columns + spec.rows < vector_registers(spec.isa);
  // A whole line that begins within one is two.
  const int lines = wide && spec.x_pixel_bytes % 64 != 0 ? 2 : 1;
  // Input rows are of few kinds: how often each comes, and how many output rows it serves through each tap.
  std::vector<int> often(phases.kinds.size(), 0);
  std::vector<std::vector<int>> served(phases.kinds.size(), std::vector<int>(spec.taps.size(), 0));
  double steps = 0;
  for (int phase : phases.of_row)
    if (phase >= 0) steps++, often[phase]++;
  for (std::size_t phase = 0; phase < served.size(); phase++)
    for (const auto& support : phases.kinds[phase])
      for (std::size_t tap = 0; tap < support.size(); tap++) served[phase][tap] += support[tap];
  double total = 0;
  for (const jit::DirectTile& tile : jit::direct_tiles(spec)) {
    double fmas = 0, loads = 0;
    for (std::size_t tap = 0; tap < spec.taps.size(); tap++) {
      int columns = 0;
      for (int t = 0; t < tile.width; t++) {
        const int at = (tile.first + t) * spec.stride_w + spec.taps[tap];
        columns += at >= 0 && at < spec.width;
      }
      if (columns == 0) continue;
      for (std::size_t phase = 0; phase < served.size(); phase++) {
        const int rows = served[phase][tap];
        fmas += often[phase] * rows * columns;
        loads += often[phase] * (rows + lines * columns * (rows > 1 && loads_once ? 1 : rows));
      }
    }
    const double sums = spec.rows * tile.width, chain = 4 * fmas / sums;
    const double added = sums * (jit::direct_blocks(spec) - 1);
    fmas += added, loads += added;
    const double started =
        wide ? std::max({fmas / 2, loads / 1.45, 0.4 * chain}) : std::max({fmas / 2, loads / 1.55, chain});
    const double ends = wide ? 1.1 * steps + 1 + 0.1 * sums : 2 * steps + 10 + 1.5 * sums;
    total += tile.repeat * (started + ends);
  }
  return total;
}

/// Kernel rows outside the map are skipped at run time: the share that meets it.
double meeting_share(const Problem& p, const Kernel& k) {
  return static_cast<double>(vertical(p, k).meeting()) / (static_cast<double>(p.out_height()) * k.height);
}

/// One channel block over one image, as far as both cost functions see it alike.
struct BlockRun {
  double cycles;      // of the multiply-adds and what feeds them
  double row_groups;  // calls of the code
  int group;          // blocks that take a row group together
};

double pixels_in(const Problem& p) {
  return static_cast<double>(p.height) * p.width;
}
double pixels_out(const DirectLayout& l) {
  return static_cast<double>(l.out_height) * l.out_width;
}
int tensors_out(const Problem& p) {
  return p.epilogue.residual ? 2 : 1;
}

/// Measured on Zen 3: cycles a pixel. Few blocks at a time leave cache lines half used or far apart.
double avx2_cycles(const Problem& p, const Kernel& k, const DirectParameters& t, const DirectLayout& l,
                   const BlockRun& run) {
  const double in_pixels = pixels_in(p), out_pixels = pixels_out(l);
  const int group = run.group;
  double cycles = run.cycles;
  if (t.ring)
    cycles += in_pixels * (2.2 + 3.0 / group);
  else
    cycles += in_pixels * 4.0 / group;
  if (!l.native) cycles += 3 * (out_pixels * tensors_out(p) + in_pixels);
  if (4.0 * l.lanes * p.branches.front().taps() * group > 16e3)
    cycles += 2 * out_pixels;  // weights leave the L1
  // Pixels a power of two apart share a few sets of the L1 (4 KiB, 8 ways); where those cannot hold a tile's
  // inputs, each tile fetches them from the L2 again.
  const double window_rows = k.height + t.rows - 1.0, window_columns = t.columns + k.width - 1.0;
  const int step = static_cast<int>(std::gcd(4 * p.input_strides().pixel, std::int64_t{4096}));
  if (!t.ring && window_rows * window_columns > 0.9 * 8 * 4096 / std::max(step, 64))
    cycles += in_pixels * (window_rows / t.rows) * (window_columns / t.columns) * (step == 4096 ? 4 : 1);
  return cycles + run.row_groups * 250.0 / group;  // of calling the code
}

/// Measured on Emerald Rapids, where a vector is a cache line. What does not fit the L2 streams past it, and
/// how fast depends on how well the prefetcher guesses: best where a tile takes all channels of few pixels.
double avx512_cycles(const Problem& p, const DirectParameters& t, const DirectLayout& l,
                     const BlockRun& run) {
  const double in_pixels = pixels_in(p), out_pixels = pixels_out(l);
  const double pixels = in_pixels + out_pixels * tensors_out(p);
  double cycles = run.cycles;
  if (t.ring) cycles += in_pixels * (4.4 + 1.5 / run.group);
  if (!l.native) cycles += 3 * pixels;
  const double bytes =
      pixels * static_cast<double>(p.batch) * p.channels * static_cast<double>(size_of(p.type));
  const double outside =
      std::clamp((bytes / static_cast<double>(core::cpu().l2_bytes) - 0.2) / 1.3, 0.0, 1.0);
  const double gaps = run.group >= l.blocks ? 0 : std::max(0.0, 8.0 / run.group - 1);
  cycles += pixels * (4.8 * outside * (1 + 0.06 * gaps) * (1 + 0.025 * (t.columns - 2)) + 0.1 * gaps);
  const double taps = p.branches.front().taps(),
               tiles = std::ceil(static_cast<double>(l.out_width) / t.columns);
  if (4.0 * l.lanes * taps * run.group > 96e3)
    cycles += 0.2 * taps * tiles * run.row_groups;    // weights leave the L1
  return cycles + run.row_groups * 90.0 / run.group;  // of calling the code
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

  std::vector<Candidate> every_candidate(const Problem& problem, const Kernel& geometry, Isa isa,
                                         int threads) const override {
    std::vector<Candidate> found;
    if (isa == Isa::portable) return found;
    const DirectTaps taps(geometry);
    const int out_width = problem.out_width(),
              blocks = (problem.channels + vector_floats(isa) - 1) / vector_floats(isa);
    const int registers = vector_registers(isa);
    const double share = meeting_share(problem, geometry);
    const Activation activation =
        direct_has(problem.epilogue) ? problem.epilogue.activation : Activation::none;
    for (int rows = 1; rows <= (isa == Isa::avx512 ? 8 : 4); rows++)
      for (int columns = 2; columns <= 28; columns++) {
        const int sums = rows * columns, tiles = (out_width + columns - 1) / columns;
        // Few sums wait for each other; a width that no tile would have is another's tiling.
        const bool small = sums < 6 && columns < out_width;
        if (small || sums + rows > registers || (columns > 2 && (out_width + tiles - 1) / tiles < columns))
          continue;
        const DirectParameters tile{rows, columns, true, 1};
        if (!jit::direct_fits(isa, rows, columns, activation) ||
            !direct_code_fits(problem, geometry, taps, tile, isa))
          continue;
        for (bool ring : {true, false}) {
          const double cycles = tile_cycles(
              direct_specification(problem, geometry, taps, {rows, columns, ring, 1}, isa, rows, false));
          for (int group : {1, 2, 4, 8, 16, 64}) {
            if (group > 1 && group / 2 >= blocks) continue;
            if (ring && group > 8) continue;
            const DirectParameters parameters{rows, columns, ring, group};
            if (direct_memory_fits(problem, geometry, parameters, isa))
              found.push_back({parameters.tiling(),
                               predict(problem, geometry, parameters, isa, threads, cycles * share)});
          }
        }
      }
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
    const double row_groups = l.row_groups(t);
    const BlockRun run{group_cycles * row_groups, row_groups, l.group_blocks(t)};
    const double vectors = static_cast<double>(p.batch) * l.blocks;
    const bool wide = isa == Isa::avx512;
    const double seconds =
        vectors * (wide ? avx512_cycles(p, t, l, run) / 2.9e9 : avx2_cycles(p, k, t, l, run) / 3.2e9);
    // Tasks are dealt in whole numbers.
    const DirectDeal d = l.deal(t, p.batch, threads);
    const double tasks = static_cast<double>(p.batch * d.groups) * d.bands;
    const double busy = tasks / (std::ceil(tasks / threads) * threads);
    const double pixels = pixels_in(p) + pixels_out(l) * tensors_out(p);
    const double least = wide ? 0 : 4.0 * pixels * l.lanes * vectors / 30e9;  // Zen 3's memory
    return std::max(seconds / busy, least) / threads;  // what a core moves, cores move side by side
  }
};

}  // namespace

const Algorithm& direct_algorithm() {
  static const DirectAlgorithm algorithm;
  return algorithm;
}

}  // namespace replk::depthwise
