// AMX on a CPU that has none: the tile instructions of generated code, interpreted where they trap.
#pragma once
#include <cstdint>

namespace replk::test {

/// From here on a tile instruction that raises SIGILL in this process is carried out by the handler, on eight
/// tiles for each thread, and stepped over: ldtilecfg, tilerelease, tilezero, tileloadd, tileloaddt1,
/// tilestored, tdpbf16ps, tdpbusd. Anything else that is illegal dies as before, and so does what a CPU would
/// refuse: shapes that do not fit, a tile that is not configured, a product of a tile with itself. It traps
/// where the CPU has no AMX, and also where it has but the process has not asked the kernel for tiles: then
/// ldtilecfg runs in hardware, and its palette is read from the signal's frame.
void interpret_tiles();
/// Instructions interpreted so far, in all threads.
std::int64_t interpreted_tiles();

}  // namespace replk::test
