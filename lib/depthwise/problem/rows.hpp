// How the rows of a problem's tensors lie.
#pragma once
#include "depthwise/problem/problem.hpp"
#include "simd/rows.hpp"

namespace replk::depthwise {

/// Of whole rows of the problem's input.
inline simd::RowLayout input_rows(const Problem& p) {
  const Strides s = p.input_strides();
  return {p.type, s.image, s.row, s.pixel, s.channel, p.width, p.multiplier};
}
/// Of whole rows of its output, or residual.
inline simd::RowLayout output_rows(const Problem& p) {
  const Strides s = p.output_strides();
  return {p.output_type(), s.image, s.row, s.pixel, s.channel, p.out_width()};
}

}  // namespace replk::depthwise
