// The most that products in a precision can do, the yardstick of percentages.
#pragma once

#include "core/types.hpp"

namespace replk::bench {

/// GFLOP/s of this many threads at once, at this moment's clock (they share it, and sometimes a core), in
/// under a millisecond a burst; a multiply-add of the precision counts two,
/// so bf16x3 has a third of bf16's. By the fastest instructions in use (core::features()): tiles, dot
/// products, for bf16 without these fp32's multiply-adds on rounded operands, for int8 without these vpmaddwd
/// and an addition (the widening of operands is not counted).
double peak_gflops(Precision precision, int threads);

}  // namespace replk::bench
