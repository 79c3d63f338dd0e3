// Taps of a block of channels, lanes side by side, to where each channel's lie one behind the other.
#pragma once
#include <cstdint>

namespace replk::depthwise {

/// tile: [taps][lanes]; to: channel 0's first tap, those of channel c `stride` floats behind it. Writes
/// `count` channels (at most lanes, 8 or 16) and no byte beside them. Needs AVX2; 16 lanes need AVX-512.
void transpose_taps(const float* tile, int taps, int lanes, int count, float* to, std::int64_t stride);

/// Prefetches what transpose_taps() will write, to be written, where that is little; what is more fetches its
/// own on the way.
void expect_taps(int taps, int count, const float* to, std::int64_t stride);

}  // namespace replk::depthwise
