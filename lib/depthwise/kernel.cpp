#include "depthwise/kernel.hpp"

#include <algorithm>

#include "core/error.hpp"

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

struct Cropped {
  Kernel kernel;        // without weights
  Range rows, columns;  // of the bounding kernel
};

Cropped crop(const Problem& problem) {
  validate(problem);
  const Axis vertical = problem.vertical(), horizontal = problem.horizontal();
  const int width = horizontal.taps;
  Cropped c{{}, vertical.reach(), horizontal.reach()};
  std::vector<std::uint8_t> mask(static_cast<std::size_t>(vertical.taps) * width, 0);
  if (c.rows.empty() || c.columns.empty()) {  // all outputs see padding alone
    c.rows = c.columns = {0, 1};
  } else {
    for (const Branch& b : problem.branches) {
      const int top = place(vertical, problem.vertical(b)), left = place(horizontal, problem.horizontal(b));
      for (int i = 0; i < b.kernel_h; i++)
        for (int j = 0; j < b.kernel_w; j++)
          mask[static_cast<std::size_t>(top + i * b.dilation_h) * width + left + j * b.dilation_w] = 1;
    }
    trim(mask, width, c.rows, c.columns);
  }
  Kernel& k = c.kernel;
  k.channels = problem.channels;
  k.height = c.rows.size();
  k.width = c.columns.size();
  k.offset_h = vertical.cropped(c.rows).offset;
  k.offset_w = horizontal.cropped(c.columns).offset;
  for (int a = c.rows.first; a < c.rows.end; a++)
    for (int b = c.columns.first; b < c.columns.end; b++)
      k.support.push_back(mask[static_cast<std::size_t>(a) * width + b]);
  return c;
}

}  // namespace

Kernel merged_geometry(const Problem& problem) {
  return crop(problem).kernel;
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

Kernel merge(const Problem& problem, std::span<const std::span<const float>> weights,
             std::span<const float> bias) {
  const auto [geometry, rows, columns] = crop(problem);
  Kernel kernel = geometry;
  const std::size_t channels = problem.channels;
  if (weights.size() != problem.branches.size())
    core::fail(core::Status::invalid_argument,
               "weights of {} branches; allowed: {}, one for each branch of {}", weights.size(),
               problem.branches.size(), to_string(problem));
  for (std::size_t i = 0; i < weights.size(); i++)
    if (weights[i].size() != channels * problem.branches[i].taps())
      core::fail(core::Status::invalid_argument,
                 "weights of branch {} have {} elements; allowed: {} ({}x{}x{})", i, weights[i].size(),
                 channels * problem.branches[i].taps(), channels, problem.branches[i].kernel_h,
                 problem.branches[i].kernel_w);
  if (!bias.empty() && bias.size() != channels)
    core::fail(core::Status::invalid_argument, "bias has {} elements; allowed: {}, one a channel, or none",
               bias.size(), channels);

  std::vector<double> sums(channels * kernel.height * kernel.width, 0.0);
  for (std::size_t i = 0; i < weights.size(); i++) {
    const Branch& branch = problem.branches[i];
    const int top = place(problem.vertical(), problem.vertical(branch)),
              left = place(problem.horizontal(), problem.horizontal(branch));
    for (int a = 0; a < branch.kernel_h; a++) {
      const int row = top + a * branch.dilation_h;
      if (row < rows.first || row >= rows.end) continue;
      for (int b = 0; b < branch.kernel_w; b++) {
        const int column = left + b * branch.dilation_w;
        if (column < columns.first || column >= columns.end) continue;
        double* sum =
            &sums[(static_cast<std::size_t>(row - rows.first) * kernel.width + column - columns.first) *
                  channels];
        const float* tap = &weights[i][static_cast<std::size_t>(a) * branch.kernel_w + b];
        for (std::size_t c = 0; c < channels; c++) sum[c] += tap[c * branch.taps()];
      }
    }
  }
  kernel.weights.assign(sums.begin(), sums.end());
  kernel.bias.assign(channels, 0.0f);
  if (problem.epilogue.bias) std::copy(bias.begin(), bias.end(), kernel.bias.begin());
  return kernel;
}

}  // namespace replk::depthwise
