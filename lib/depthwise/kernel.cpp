#include "depthwise/kernel.hpp"

#include <algorithm>

#include "core/error.hpp"

namespace replk::depthwise {
namespace {

/// Where a branch lies in the bounding kernel: how far its first tap is from the bounding kernel's first row
/// and column.
struct Placement {
  int top, left;
};

Placement placement(const Problem& problem, const Branch& branch) {
  Problem bounding = problem, alone = problem;
  alone.branches = {branch};
  set_default_padding(bounding);
  set_default_padding(alone);
  return {bounding.pad_h - alone.pad_h, bounding.pad_w - alone.pad_w};
}

/// The taps [first, end) of an axis that meet the map for some output.
struct Reach {
  int first, end;
};

Reach reach(int extent, int input, int output, int pad, int stride) {
  return {std::max(0, pad - (output - 1) * stride), std::min(extent, input + pad)};
}

/// Shrinks to the rows and columns between the first and the last that hold a tap; 1 x 1 without support when
/// no tap meets the map.
void trim(const std::vector<std::uint8_t>& mask, int stride, Reach& rows, Reach& columns) {
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

struct Cropped {
  Kernel kernel;        // without weights
  Reach rows, columns;  // of the bounding kernel
};

Cropped crop(const Problem& problem) {
  validate(problem);
  int height = 0, width = 0;
  for (const Branch& b : problem.branches) {
    const auto [top, left] = placement(problem, b);
    height = std::max(height, top + b.extent_h());
    width = std::max(width, left + b.extent_w());
  }
  std::vector<std::uint8_t> mask(static_cast<std::size_t>(height) * width, 0);
  for (const Branch& b : problem.branches) {
    const auto [top, left] = placement(problem, b);
    for (int i = 0; i < b.kernel_h; i++)
      for (int j = 0; j < b.kernel_w; j++)
        mask[static_cast<std::size_t>(top + i * b.dilation_h) * width + left + j * b.dilation_w] = 1;
  }
  Cropped c;
  c.rows = reach(height, problem.height, problem.out_height(), problem.pad_h, problem.stride_h);
  c.columns = reach(width, problem.width, problem.out_width(), problem.pad_w, problem.stride_w);
  trim(mask, width, c.rows, c.columns);
  Kernel& k = c.kernel;
  k.channels = problem.channels;
  k.height = c.rows.end - c.rows.first;
  k.width = c.columns.end - c.columns.first;
  k.offset_h = c.rows.first - problem.pad_h;
  k.offset_w = c.columns.first - problem.pad_w;
  for (int a = c.rows.first; a < c.rows.end; a++)
    for (int b = c.columns.first; b < c.columns.end; b++)
      k.support.push_back(mask[static_cast<std::size_t>(a) * width + b]);
  return c;
}

}  // namespace

Kernel merged_geometry(const Problem& problem) {
  return crop(problem).kernel;
}

namespace {

std::vector<std::int64_t> meeting(int taps, int offset, int input, int output, int stride) {
  std::vector<std::int64_t> counts;
  for (int tap = 0; tap < taps; tap++) {
    // Outputs o with 0 <= o * stride + at < input.
    const std::int64_t at = std::int64_t{tap} + offset;
    const auto up_to = [&](std::int64_t end) {
      return std::clamp<std::int64_t>((end + stride - 1) / stride, 0, output);
    };
    counts.push_back(std::max<std::int64_t>(
        0, up_to(std::max<std::int64_t>(0, input - at)) - up_to(std::max<std::int64_t>(0, -at))));
  }
  return counts;
}

}  // namespace

std::vector<std::int64_t> meeting_rows(const Problem& p, const Kernel& geometry) {
  return meeting(geometry.height, geometry.offset_h, p.height, p.out_height(), p.stride_h);
}
std::vector<std::int64_t> meeting_columns(const Problem& p, const Kernel& geometry) {
  return meeting(geometry.width, geometry.offset_w, p.width, p.out_width(), p.stride_w);
}

std::int64_t meeting_taps(const Problem& problem, const Kernel& geometry) {
  const auto rows = meeting_rows(problem, geometry), columns = meeting_columns(problem, geometry);
  std::int64_t pairs = 0;
  for (int a = 0; a < geometry.height; a++)
    for (int b = 0; b < geometry.width; b++)
      if (geometry.has(a, b)) pairs += rows[a] * columns[b];
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
    const auto [top, left] = placement(problem, branch);
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
