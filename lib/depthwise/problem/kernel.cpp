#include "depthwise/problem/kernel.hpp"

#include <algorithm>

namespace replk::depthwise {
namespace {

/// Shrinks to the rows and columns between the first and the last that hold a tap; 1 x 1 without support when
/// no tap meets the map.
void trim(const std::vector<std::uint8_t>& mask, int stride, Range& rows, Range& columns) {
  const auto any = [&](int a, int b) { return mask[static_cast<std::size_t>(a) * stride + b] != 0; };
  const auto row_empty = [&](int a) {
    for (int b = columns.first; b < columns.end; b++)
      if (any(a, b)) return false;
    return true;
  };
  const auto column_empty = [&](int b) {
    for (int a = rows.first; a < rows.end; a++)
      if (any(a, b)) return false;
    return true;
  };
  while (rows.end > rows.first + 1 && row_empty(rows.first)) rows.first++;
  while (rows.end > rows.first + 1 && row_empty(rows.end - 1)) rows.end--;
  while (columns.end > columns.first + 1 && column_empty(columns.first)) columns.first++;
  while (columns.end > columns.first + 1 && column_empty(columns.end - 1)) columns.end--;
}

/// Where a branch's tap 0 lies in the bounding kernel, along one axis.
int place(const Axis& bounding, const Axis& branch) {
  return branch.offset - bounding.offset;
}

}  // namespace

Kernel merged_geometry(const Problem& problem) {
  validate(problem);
  const Axis vertical = problem.vertical(), horizontal = problem.horizontal();
  Range rows = vertical.reach(), columns = horizontal.reach();
  const int width = horizontal.taps;
  std::vector<std::uint8_t> mask(static_cast<std::size_t>(vertical.taps) * width, 0);
  if (rows.empty() || columns.empty()) {  // all outputs see padding alone
    rows = columns = {0, 1};
  } else {
    for (const Branch& b : problem.branches) {
      const int top = place(vertical, problem.vertical(b)), left = place(horizontal, problem.horizontal(b));
      for (int i = 0; i < b.kernel_h; i++)
        for (int j = 0; j < b.kernel_w; j++)
          mask[static_cast<std::size_t>(top + i * b.dilation_h) * width + left + j * b.dilation_w] = 1;
    }
    trim(mask, width, rows, columns);
  }
  Kernel k{
      rows.size(), columns.size(), vertical.cropped(rows).offset, horizontal.cropped(columns).offset, {}};
  for (int a = rows.first; a < rows.end; a++)
    for (int b = columns.first; b < columns.end; b++)
      k.support.push_back(mask[static_cast<std::size_t>(a) * width + b]);
  return k;
}

bool turned(const Kernel& a, const Kernel& b) {
  return a.height == b.height && a.width == b.width && a.offset_h + b.offset_h == 1 - a.height &&
         a.offset_w + b.offset_w == 1 - a.width &&
         std::equal(a.support.begin(), a.support.end(), b.support.rbegin());
}

Axis vertical(const Problem& p, const Kernel& geometry) {
  return {p.height, p.out_height(), p.stride_h, 1, geometry.offset_h, geometry.height};
}
Axis horizontal(const Problem& p, const Kernel& geometry) {
  return {p.width, p.out_width(), p.stride_w, 1, geometry.offset_w, geometry.width};
}

std::int64_t meeting_taps(const Problem& problem, const Kernel& geometry) {
  const Axis rows = vertical(problem, geometry), columns = horizontal(problem, geometry);
  std::vector<std::int64_t> outputs;  // of each column
  for (int b = 0; b < geometry.width; b++) outputs.push_back(columns.outputs_of(b).size());
  std::int64_t pairs = 0;
  for (int a = 0; a < geometry.height; a++) {
    const std::int64_t here = rows.outputs_of(a).size();
    for (int b = 0; b < geometry.width; b++)
      if (geometry.has(a, b)) pairs += here * outputs[b];
  }
  return pairs * problem.batch * problem.channels;
}

}  // namespace replk::depthwise
