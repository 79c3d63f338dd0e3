#include "depthwise/cost/direct_cost.hpp"

#include <algorithm>

#include "core/cpu.hpp"

namespace replk::depthwise {
namespace {

constexpr double ways = 8, way_bytes = 4096;  // of the L1

/// Of fetching a tile's inputs from the L2 again, where pixels lie so that few sets hold them.
double refetching(const Machine& m, const DirectCounts& c) {
  if (c.ring || c.window <= 0.9 * ways * way_bytes / std::max(c.set_step, 64.0)) return 0;
  return m.refetch * c.in_pixels * c.windows * (c.set_step == way_bytes ? 4 : 1);
}

/// Best where a tile takes all channels of few pixels.
double streaming(const Machine& m, const DirectCounts& c) {
  const double outside =
      std::clamp((c.tensor_bytes / static_cast<double>(core::cpu().l2_bytes) - 0.2) / 1.3, 0.0, 1.0);
  const double gaps = c.every_block ? 0 : std::max(0.0, 8.0 / c.group - 1);
  return (c.in_pixels + c.out_pixels) * (m.stream * (c.whole_pixels ? m.whole_pixels : 1) * outside *
                                             (1 + 0.06 * gaps) * (1 + 0.025 * (c.columns - 2)) +
                                         m.stream_blocks * gaps);
}

}  // namespace

double cycles(const Machine& m, const DirectTiles& all) {
  double total = 0;
  for (const DirectTiles::Tile& t : all.tiles) {
    const double started = std::max(
        {(t.fmas + t.added) / m.multiplies, (t.loads + t.added) / m.loads, m.chain * t.fmas / t.sums});
    total += t.repeat * (started + m.tile_row * all.input_rows + m.tile + m.tile_sum * t.sums);
  }
  return total;
}

double seconds(const Machine& m, const DirectCounts& c, double tile_cycles) {
  const double pixels = c.in_pixels + c.out_pixels;
  double cycles = tile_cycles * c.row_groups;
  cycles += c.in_pixels * (c.ring ? m.ring + m.ring_group / c.group : m.unpacked / c.group);
  if (c.converted) cycles += m.converted * pixels;
  if (c.vector_bytes * c.taps * c.group > m.weights_bytes)
    cycles += m.weights_pixel * c.stored_pixels + m.weights_tap * c.taps * c.tiles * c.row_groups;
  cycles += refetching(m, c) + streaming(m, c) + c.row_groups * m.call / c.group;
  const double least = m.bandwidth > 0 ? pixels * c.vector_bytes * c.vectors / m.bandwidth : 0;
  // What a core moves, cores move side by side.
  return std::max(c.vectors * cycles / m.clock / c.busy, least) / c.threads;
}

}  // namespace replk::depthwise
