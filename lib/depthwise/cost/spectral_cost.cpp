#include "depthwise/cost/spectral_cost.hpp"

#include <algorithm>
#include <numeric>

#include "core/cpu.hpp"

namespace replk::depthwise {

double cycles(const Machine& m, const jit::Counts& c) {
  return std::max(
      {c.multiplies / m.multiplies, (c.multiplies + c.adds) / m.operations, c.instructions / m.instructions});
}

double seconds(const Machine& m, const SpectralCounts& c) {
  const double l2 = static_cast<double>(core::cpu().l2_bytes);
  double columns = 0;
  for (const SpectralCounts::Columns& each : c.columns) {
    const auto levels = std::min(static_cast<std::size_t>(std::max(each.karatsuba, 0)), m.column.size() - 1);
    columns += (each.karatsuba < 0 ? m.transform : m.column[levels]) * each.times * cycles(m, each.each);
  }
  const double plane_line = m.plane_in_l2 * std::min(1.0, c.planes_bytes / (64 << 10)) +
                            m.plane_beyond * std::clamp(c.planes_bytes / l2 - 0.1, 0.0, 1.0);
  const double in_cache = m.row_instruction * c.row_instructions + plane_line * c.plane_lines + columns;

  double line = m.line + (std::gcd(c.step, 4096) >= 512 ? m.colliding : 0);
  if (c.buffered)
    line += m.window;
  else
    line += (c.along_h ? m.across : 0) - (c.ahead ? m.ahead : 0);
  const double beyond = std::min(1.0, c.bytes / (l2 * c.threads));
  const int b = c.run_bytes;
  const double run = m.run[b < 64 ? 0 : b < 128 ? 1 : b < 256 ? 2 : 3];
  return (in_cache + c.tensor_lines * beyond * line) * run * c.blocks / m.clock / c.threads;
}

}  // namespace replk::depthwise
