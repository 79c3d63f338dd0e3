#include "depthwise/cost/machine.hpp"

#include "core/cpu.hpp"

namespace replk::depthwise {
namespace {

constexpr double portable_without_fma = 2e8;

/// AVX-512 on a core of an Emerald Rapids. row-spectral's are a fit over 73 shapes and 6,000 tilings (its
/// picks without measuring took 1.04 times the best); direct's are measured one by one. A vector is a line
/// there. How fast what does not fit the L2 streams past it depends on how well the prefetcher guesses.
constexpr Machine intel_avx512{
    .name = "Emerald Rapids, AVX-512",
    .clock = 2.9e9,
    .multiplies = 2,
    .operations = 2,
    .instructions = 4,
    .plain = 3e9,
    .loads = 1.45,
    .chain = 1.6,  // a larger window overlaps tiles and hides most of their ends
    .tile_row = 1.1,
    .tile = 1,
    .tile_sum = 0.1,
    .call = 90,
    .ring = 4.4,
    .ring_group = 1.5,
    .unpacked = 0,
    .converted = 3,
    .weights_bytes = 96e3,
    .weights_pixel = 0,
    .weights_tap = 0.2,
    .refetch = 0,
    .stream = 4.8,
    .stream_blocks = 0.1,
    .whole_pixels = 0.33,
    .bandwidth = 0,
    .row_instruction = 0.1171,
    .plane_in_l2 = 1.976,
    .plane_beyond = 18.69,
    .column = {1.310, 1.471, 1.493},
    .transform = 1.686,
    .line = 5.564,
    .colliding = 1.117,
    .ahead = 1.289,
    .window = 4.039,
    .across = 0.687,
    .run = {1.94, 1.28, 1, 0.985},
};

/// AVX2 on the same core: a fit over 35 shapes and 1,568 times (measure/fit_machine), whose picks without
/// measuring took 1.06 times the best.
constexpr Machine intel_avx2{
    .name = "Emerald Rapids, AVX2",
    .clock = 2.9e9,
    .multiplies = 2,
    .operations = 2,
    .instructions = 4,
    .plain = 3e9,
    .loads = 1.173,
    .chain = 3.2,
    .tile_row = 1.556,
    .tile = 10.87,
    .tile_sum = 1.928,
    .call = 111.3,
    .ring = 3.952,
    .ring_group = 8.42,
    .unpacked = 14.03,
    .converted = 0.8551,
    .weights_bytes = 16e3,
    .weights_pixel = 1.053,
    .weights_tap = 0,
    .refetch = 0.285,
    .stream = 0,
    .stream_blocks = 0,
    .bandwidth = 30e9,
    .row_instruction = 0.1178,
    .plane_in_l2 = 5.155,
    .plane_beyond = 31.64,
    .column = {1.104, 1.167, 1.413},
    .transform = 1.46,
    .line = 7.217,
    .colliding = 5.19,
    .ahead = 3.041,
    .window = 1.173,
    .across = 1.246,
    .run = {1.58, 1.225, 1, 0.9974},
};

/// Measured on a core of a Zen 3 (AVX2), whose additions have pipes of their own.
constexpr Machine zen3{
    .name = "Zen 3, AVX2",
    .clock = 3.2e9,
    .multiplies = 2,
    .operations = 4,
    .instructions = 4,
    .plain = 3e9,
    .loads = 1.55,
    .chain = 4,
    .tile_row = 2,
    .tile = 10,
    .tile_sum = 1.5,
    .call = 250,
    .ring = 2.2,
    .ring_group = 3,
    .unpacked = 4,
    .converted = 3,
    .weights_bytes = 16e3,
    .weights_pixel = 2,
    .weights_tap = 0,
    .refetch = 1,
    .stream = 0,
    .stream_blocks = 0,
    .bandwidth = 30e9,
    .row_instruction = 0.4948,
    .plane_in_l2 = 0.237,
    .plane_beyond = 4.741,
    .column = {1.481, 1.517, 1.600},
    .transform = 1.659,
    .line = 1.185,
    .colliding = 0.593,
    .ahead = 0,
    .window = 2.370,
    .across = 5.926,
    .run = {1.35, 1.06, 1, 0.99},
};

/// AVX-512 on a Zen 4: not fitted, no such CPU was at hand (measure/fit_machine prints a row). Its pipes are
/// Zen 3's, 256 bits wide, so that every vector of 512 bits takes each twice: half as many multiply-adds,
/// loads and instructions start in a cycle, and packing a vector takes twice as long. What is counted in
/// lines of 64 bytes, or in calls, stays, and so do the ends of tiles, which wait for results and not for
/// pipes.
constexpr Machine zen4_avx512 = [] {
  Machine m = zen3;
  m.name = "Zen 4, AVX-512";
  m.clock = 3.7e9;
  m.multiplies = 1;
  m.operations = 2;
  m.loads = 0.8;
  m.ring = 4.4;
  m.ring_group = 3;
  m.converted = 6;
  m.weights_bytes = 24e3;
  m.row_instruction = 0.99;
  m.splits = true;
  return m;
}();

}  // namespace

const Machine& machine(std::string_view vendor, Features features) {
  static constexpr Machine no_fma = [] {
    Machine m = zen3;
    m.name = "no AVX2";
    m.plain = portable_without_fma;
    return m;
  }();
  if (!features.has(Feature::avx2)) return no_fma;
  const bool wide = features.has(Feature::avx512);
  if (vendor == "GenuineIntel") return wide ? intel_avx512 : intel_avx2;
  return wide ? zen4_avx512 : zen3;
}

const Machine& machine(Features features) {
  return machine(core::cpu().vendor, features);
}

}  // namespace replk::depthwise
