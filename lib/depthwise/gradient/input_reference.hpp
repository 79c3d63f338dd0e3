// The input gradient in double precision, by the definition: every output's dy is spread over the pixels that
// it was computed from. What tests and benches compare against; independent of remainders and turned kernels.
#pragma once
#include <cstdint>
#include <span>
#include <utility>
#include <vector>

#include "depthwise/problem/problem.hpp"
#include "depthwise/problem/reference.hpp"

namespace replk::depthwise {

/// Of some channels of some images, before rounding.
struct InputReference {
  struct Plane {
    std::int64_t image = 0;
    int channel = 0;         // of the input
    std::vector<double> dx;  // [height][width]
    double norms = 0;        // |w| * |dy|, summed over the channel's outputs
  };
  std::vector<Plane> planes;
};
/// planes: image and input channel of each; all of the problem's own batch where there are none.
InputReference input_reference(const Problem& problem, std::span<const std::span<const float>> weights,
                               const void* dy, const std::vector<std::pair<std::int64_t, int>>& planes = {});

/// How far dx is off, as compare() has it for a forward pass: over the largest gradient of its channel and
/// image, and over what class fast allows.
Accuracy input_error(const Problem& problem, const InputReference& expected, const void* dx);

}  // namespace replk::depthwise
