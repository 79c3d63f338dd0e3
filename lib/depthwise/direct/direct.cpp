#include "depthwise/direct/direct.hpp"

#include <algorithm>
#include <cmath>
#include <memory>
#include <numeric>
#include <utility>

#include "depthwise/cost/direct_cost.hpp"
#include "depthwise/direct/executor.hpp"
#include "depthwise/direct/geometry.hpp"
#include "jit/kernels/direct.hpp"
#include "jit/x64/fingerprint.hpp"

namespace replk::depthwise {
namespace {

/// Loads of a tile through a tap: of `columns` inputs, each for so many output rows, and a weight a row.
double loads_of(int rows, int columns, int lines, bool loads_once) {
  return rows + lines * columns * (rows > 1 && loads_once ? 1 : rows);
}

DirectTiles tiles_of(const jit::DirectSpec& spec) {
  const jit::DirectPhases phases = jit::direct_phases(spec);
  const bool loads_once = spec.rows * spec.columns + spec.rows < vector_registers(spec.isa);
  // A vector as long as a line that begins within one is two.
  const int lines = vector_floats(spec.isa) == 16 && spec.x_pixel_bytes % 64 != 0 ? 2 : 1;
  // Input rows are of few kinds: how often each comes, and how many output rows it serves through each tap.
  std::vector<int> often(phases.kinds.size(), 0);
  std::vector<std::vector<int>> served(phases.kinds.size(), std::vector<int>(spec.taps.size(), 0));
  DirectTiles all;
  for (int phase : phases.of_row)
    if (phase >= 0) all.input_rows++, often[phase]++;
  for (std::size_t phase = 0; phase < served.size(); phase++)
    for (const auto& support : phases.kinds[phase])
      for (std::size_t tap = 0; tap < support.size(); tap++) served[phase][tap] += support[tap];
  for (const jit::DirectTile& tile : jit::direct_tiles(spec)) {
    const double sums = static_cast<double>(spec.rows) * tile.width;
    DirectTiles::Tile t{.fmas = 0,
                        .loads = 0,
                        .sums = sums,
                        .added = sums * (jit::direct_blocks(spec) - 1),
                        .repeat = static_cast<double>(tile.repeat)};
    for (std::size_t tap = 0; tap < spec.taps.size(); tap++) {
      const Axis columns{.input = spec.width,
                         .output = spec.out_width,
                         .stride = spec.stride_w,
                         .offset = spec.taps[tap],
                         .taps = 1};
      const Range meet = columns.outputs_of(0);
      const int count =
          Range{std::max(meet.first, tile.first), std::min(meet.end, tile.first + tile.width)}.size();
      if (count == 0) continue;
      for (std::size_t phase = 0; phase < served.size(); phase++) {
        t.fmas += often[phase] * served[phase][tap] * count;
        t.loads += often[phase] * loads_of(served[phase][tap], count, lines, loads_once);
      }
    }
    all.tiles.push_back(t);
  }
  return all;
}

/// Kernel rows outside the map are skipped at run time: the share that meets it.
double meeting_share(const DirectGeometry& g) {
  return static_cast<double>(g.vertical.meeting()) / (static_cast<double>(g.out_height) * g.kernel.height);
}

/// Of a row group of one block. It depends on the register tile and the ring alone.
double tile_cycles(const Machine& m, const DirectGeometry& g) {
  return meeting_share(g) * cycles(m, tiles_of(g.specification(g.parameters.rows, false)));
}

DirectCounts counts_of(const DirectGeometry& g, int threads) {
  const Problem& p = g.problem;
  const DirectParameters& t = g.parameters;
  const double batch = static_cast<double>(p.batch), stored = static_cast<double>(g.out_height) * g.out_width;
  const double window_rows = g.kernel_rows() + t.rows - 1.0,
               window_columns = t.columns + g.kernel.width - 1.0;
  const DirectDeal d = g.deal(p.batch, threads);
  const double tasks = batch * d.groups * d.bands;
  DirectCounts c{.threads = static_cast<double>(threads),
                 .busy = tasks / (std::ceil(tasks / threads) * threads),
                 .vectors = batch * g.blocks,
                 .vector_bytes = 4.0 * g.lanes,
                 .tensor_bytes = 0,
                 .in_pixels = static_cast<double>(p.height) * p.width,
                 .out_pixels = stored * (p.epilogue.residual ? 2 : 1),
                 .row_groups = static_cast<double>(g.row_groups()),
                 .group = static_cast<double>(g.group_blocks()),
                 .every_block = g.group_blocks() >= g.blocks,
                 .ring = t.ring,
                 .whole_pixels = false,
                 .converted = !g.native,
                 .taps = static_cast<double>(p.branches.front().taps()),
                 .columns = static_cast<double>(t.columns),
                 .tiles = std::ceil(static_cast<double>(g.out_width) / t.columns),
                 .window = window_rows * window_columns,
                 .windows = (window_rows / t.rows) * (window_columns / t.columns),
                 .set_step = static_cast<double>(std::gcd(4 * p.input_strides().pixel, std::int64_t{4096})),
                 .stored_pixels = stored};
  c.tensor_bytes = (c.in_pixels * static_cast<double>(size_of(p.type)) +
                    c.out_pixels * static_cast<double>(size_of(p.output_type()))) *
                   batch * p.channels;
  c.whole_pixels =
      t.columns == 1 && !t.ring && c.every_block &&
      (c.window + c.taps) * c.vector_bytes * c.group <= static_cast<double>(core::cpu().l1d_bytes);
  return c;
}

class DirectVariant final : public Variant {
 public:
  DirectVariant(DirectGeometry geometry, int threads) : geometry_(std::move(geometry)), threads_(threads) {}
  Tiling tiling() const override { return geometry_.parameters.tiling(); }
  double predict(const Machine& m) const override {
    return seconds(m, counts_of(geometry_, threads_), tile_cycles(m, geometry_));
  }
  std::unique_ptr<Executor> prepare() const override { return std::make_unique<DirectExecutor>(geometry_); }

 private:
  DirectGeometry geometry_;
  int threads_;
};

class DirectAlgorithm final : public Algorithm {
 public:
  std::string_view name() const override { return "direct"; }
  bool exact() const override { return true; }
  int complexity() const override { return 1; }
  std::span<const std::int32_t> constants() const override { return jit::values_of<DirectConstants>; }

 private:
  std::unique_ptr<Variant> read_fields(const Request& request, const Tiling& tiling) const override {
    const auto parameters = DirectParameters::read(tiling);
    if (request.isa() == Isa::portable || !parameters) return nullptr;
    DirectGeometry geometry(request, *parameters);
    if (!geometry.memory_fits() || !geometry.code_fits()) return nullptr;
    return std::make_unique<DirectVariant>(std::move(geometry), request.threads);
  }

  std::vector<Candidate> every_candidate(const Request& request) const override {
    std::vector<Candidate> found;
    const Isa isa = request.isa();
    if (isa == Isa::portable) return found;
    DirectGeometry g(request, {1, 2, true, 1});
    const Activation activation = g.finished ? request.problem.epilogue.activation : Activation::none;
    for (int rows = 1; rows <= (isa == Isa::avx512 ? 8 : 4); rows++)
      for (int columns = 2; columns <= 28; columns++) {
        const int sums = rows * columns, tiles = (g.out_width + columns - 1) / columns;
        // Few sums wait for each other; a width that no tile would have is another's tiling.
        const bool small = sums < 6 && columns < g.out_width;
        if (small || sums + rows > vector_registers(isa) ||
            (columns > 2 && (g.out_width + tiles - 1) / tiles < columns))
          continue;
        g.set({rows, columns, true, 1});
        if (jit::direct_fits(isa, rows, columns, activation) && g.code_fits())
          add_groups(found, g, machine(request.features), request.threads);
      }
    add_pixels(found, g, machine(request.features), request.threads);
    return found;
  }

  /// Tiles of one pixel (DirectCounts::whole_pixels), where the tensors come from beyond the L2.
  static void add_pixels(std::vector<Candidate>& found, DirectGeometry& g, const Machine& m, int threads) {
    for (int rows = 2; rows <= 4; rows++) {
      g.set({rows, 1, false, g.blocks});
      const DirectCounts c = counts_of(g, threads);
      if (c.whole_pixels && c.tensor_bytes > static_cast<double>(core::cpu().l2_bytes) && g.memory_fits() &&
          g.code_fits())
        found.push_back({g.parameters.tiling(), seconds(m, c, tile_cycles(m, g))});
    }
  }

  /// And the tiles of one pixel: how well prefetchers guess depends most on the machine.
  void keep_best(std::vector<Candidate>& sorted, std::size_t most) const override {
    std::size_t kept = std::min(most, sorted.size());
    for (std::size_t i = kept; i < sorted.size(); i++)
      if (sorted[i].tiling.number("columns", 0) == 1) sorted[kept++] = sorted[i];
    sorted.resize(kept);
  }

  /// A register tile, with and without a ring, for groups of any size.
  static void add_groups(std::vector<Candidate>& found, DirectGeometry& g, const Machine& m, int threads) {
    const auto [rows, columns, as_it_is, one] = g.parameters;
    for (bool ring : {true, false}) {
      g.set({rows, columns, ring, 1});
      const double cycles = tile_cycles(m, g);
      for (int group : {1, 2, 4, 8, 16, 32, 64}) {
        if (group > 1 && group / 2 >= g.blocks) continue;
        if (ring && group > 8) continue;
        g.set({rows, columns, ring, group});
        if (g.memory_fits())
          found.push_back({g.parameters.tiling(), seconds(m, counts_of(g, threads), cycles)});
      }
    }
  }
};

}  // namespace

const Algorithm& direct_algorithm() {
  static const DirectAlgorithm algorithm;
  return algorithm;
}

}  // namespace replk::depthwise
