// What a convolution by transforms takes on a machine.
#pragma once
#include <cstdint>
#include <vector>

#include "depthwise/cost/machine.hpp"
#include "jit/program/registers.hpp"

namespace replk::depthwise {

/// Of a run; work is that of one block of channels over one image.
struct SpectralCounts {
  /// Planes, or pairs of them, that the same code takes through a column pass.
  struct Columns {
    jit::Counts each;
    double times;
    int karatsuba;  // levels; -1: the columns are transformed
  };
  double threads;
  double blocks;            // of channels of all images
  double row_instructions;  // of both row passes
  double plane_lines;       // that row passes write and read
  double planes_bytes;      // of scratch
  std::vector<Columns> columns;
  double tensor_lines;  // in and out
  double bytes;         // of tensors and packed weights, of all blocks
  std::int64_t step;    // bytes between pixels of a row
  bool buffered, ahead, along_h;
  int run_bytes;  // of a pixel that are used at once
};

/// Of a plane, or a pair of them, in a column pass where everything lies in the L1: the ideal.
double cycles(const Machine& machine, const jit::Counts& counts);

double seconds(const Machine& machine, const SpectralCounts& counts);

}  // namespace replk::depthwise
