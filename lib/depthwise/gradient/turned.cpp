#include "depthwise/gradient/turned.hpp"

#include <algorithm>
#include <array>
#include <functional>
#include <numeric>

#include "core/threads.hpp"

namespace replk::depthwise {
namespace {

constexpr int together = 32;                    // channels that are turned in one task
constexpr int most_side = 63, most_line = 127;  // of a kernel, as validate() allows them

/// A branch's own part of a class; no taps where it has none.
Turned turned(const Problem& p, int branch, int row, int column) {
  const Branch& b = p.branches[branch];
  const Source source{branch, taps_of_remainder(p.vertical(b), row),
                      taps_of_remainder(p.horizontal(b), column)};
  const auto& [index, v, h] = source;
  return {{v.taps, h.taps, v.dilation, h.dilation}, v.last_shift(), h.last_shift(), {source}};
}

/// The shifts e of some branches, from the first to the last, along one axis.
struct Reach {
  int first = INT32_MAX, last = INT32_MIN;
  int extent() const { return last - first + 1; }
};
Reach reach(const std::vector<Turned>& branches, bool rows) {
  Reach all;
  for (const Turned& t : branches) {
    const int last = rows ? t.last_h : t.last_w;
    const int extent = rows ? t.branch.extent_h() : t.branch.extent_w();
    all.first = std::min(all.first, last - extent + 1);
    all.last = std::max(all.last, last);
  }
  return all;
}

/// Rows (columns) j of a class that meet dy, and the padding that gives these and no others.
struct Span {
  int first = 0, end = 0;
  Padding padding;
};
Span span_of(const Reach& e, int pixels, int outputs) {
  Span s;
  s.first = std::max(0, e.first);
  s.end = std::min(pixels, e.last + outputs);
  s.padding = {e.last - s.first, s.end - outputs - e.first};
  return s;
}

/// The convolution of dy with these branches; none where no pixel of the class meets dy.
std::vector<Part> part_of(const Problem& p, std::vector<Turned> branches, int row, int column) {
  const auto pixels = [](int all, int r, int stride) { return r < all ? (all - r - 1) / stride + 1 : 0; };
  const Span rows = span_of(reach(branches, true), pixels(p.height, row, p.stride_h), p.out_height());
  const Span columns = span_of(reach(branches, false), pixels(p.width, column, p.stride_w), p.out_width());
  if (rows.first >= rows.end || columns.first >= columns.end) return {};
  Problem q;
  q.batch = p.batch;
  q.channels = p.channels;
  q.height = p.out_height();
  q.width = p.out_width();
  q.branches.clear();
  for (const Turned& t : branches) q.branches.push_back(t.branch);
  q.pad_h = rows.padding;
  q.pad_w = columns.padding;
  q.layout = p.output_layout();
  if (p.layout != q.layout) q.out_layout = p.layout;
  q.type = p.type;
  q.numerics = p.numerics;
  q.epilogue = {.bias = false};
  const bool whole = std::all_of(branches.begin(), branches.end(), [&](const Turned& t) {
    return t.sources.size() == 1 && t.branch.taps() == p.branches[t.sources[0].branch].taps();
  });
  return {
      {q, row + rows.first * p.stride_h, column + columns.first * p.stride_w, std::move(branches), whole}};
}

/// Whether a problem of several branches, which centres them, has them where they are to lie.
bool centred(const std::vector<Turned>& branches) {
  const auto same = [&](bool rows) {
    // Twice the distance from the middle of a branch to dy's pixel j; its middle is a tap or lies between
    // two.
    const auto middle = [&](const Turned& t) {
      return 2 * (rows ? t.last_h : t.last_w) - (rows ? t.branch.extent_h() : t.branch.extent_w());
    };
    return std::all_of(branches.begin(), branches.end(),
                       [&](const Turned& t) { return middle(t) == middle(branches[0]); });
  };
  return same(true) && same(false);
}

/// One kernel that holds them all, if there is such a one. Class exact takes none with holes: what a hole
/// meets must not reach a result.
bool merge(const Problem& p, std::vector<Turned>& branches) {
  const Reach rows = reach(branches, true), columns = reach(branches, false);
  const Branch all{rows.extent(), columns.extent(), 1, 1};
  if (all.kernel_h > (all.kernel_w == 1 ? most_line : most_side) ||
      all.kernel_w > (all.kernel_h == 1 ? most_line : most_side))
    return false;
  const bool full = std::any_of(branches.begin(), branches.end(), [&](const Turned& t) {
    return t.branch.kernel_h == all.kernel_h && t.branch.kernel_w == all.kernel_w;
  });
  if (!full && p.numerics == Numerics::exact) return false;
  Turned merged{all, rows.last, columns.last, {}};
  for (const Turned& t : branches) merged.sources.push_back(t.sources[0]);
  branches = {merged};
  return true;
}

std::vector<Part> class_parts(const Problem& p, int row, int column) {
  std::vector<Turned> branches;
  for (int i = 0; i < static_cast<int>(p.branches.size()); i++) {
    Turned t = turned(p, i, row, column);
    if (t.branch.taps() > 0) branches.push_back(std::move(t));
  }
  if (branches.empty()) return {};
  if (centred(branches) || merge(p, branches)) return part_of(p, std::move(branches), row, column);
  std::vector<Part> parts;
  for (Turned& t : branches)
    for (Part& part : part_of(p, {std::move(t)}, row, column)) parts.push_back(std::move(part));
  return parts;
}

/// Channel c of a turned branch that has one source: the taps in reverse order.
void turn_one(const Problem& p, const Turned& t, std::span<const std::span<const float>> weights, int c,
              float* to) {
  const auto& [index, v, h] = t.sources[0];
  const Branch& b = p.branches[index];
  const float* from = weights[index].data() + std::int64_t{c} * b.taps();
  for (int i = v.taps; i-- > 0;) {
    const float* row = from + (v.first + i * v.step) * b.kernel_w + h.first;
    for (int j = h.taps; j-- > 0;) *to++ = row[j * h.step];
  }
}

void turn_merged(const Problem& p, const Turned& t, std::span<const std::span<const float>> weights, int c,
                 float* to) {
  std::array<double, most_side * most_side> sums;
  const int taps = t.branch.taps();
  std::fill_n(sums.begin(), taps, 0.0);
  for (const auto& [index, v, h] : t.sources) {
    const Branch& b = p.branches[index];
    const float* from = weights[index].data() + std::int64_t{c} * b.taps();
    for (int i = 0; i < v.taps; i++)
      for (int j = 0; j < h.taps; j++) {
        const int row = t.last_h - v.shift - i * v.dilation, column = t.last_w - h.shift - j * h.dilation;
        sums[row * t.branch.kernel_w + column] +=
            from[(v.first + i * v.step) * b.kernel_w + h.first + j * h.step];
      }
  }
  for (int i = 0; i < taps; i++) to[i] = static_cast<float>(sums[i]);
}

}  // namespace

TapClass taps_of_remainder(const Axis& axis, int r) {
  const int s = axis.stride, common = std::gcd(axis.dilation, s);
  TapClass c;
  c.step = s / common;
  c.dilation = axis.dilation / common;
  for (c.first = 0; c.first < std::min(c.step, axis.taps); c.first++) {
    const int place = c.first * axis.dilation + axis.offset - r;
    c.shift = place / s;
    if (c.shift * s == place) {
      c.taps = (axis.taps - c.first - 1) / c.step + 1;
      return c;
    }
  }
  return {};
}

std::vector<Part> turned_parts(const Problem& problem) {
  std::vector<Part> parts;
  for (int row = 0; row < std::min(problem.stride_h, problem.height); row++)
    for (int column = 0; column < std::min(problem.stride_w, problem.width); column++)
      for (Part& part : class_parts(problem, row, column)) parts.push_back(std::move(part));
  return parts;
}

void turn_weights(const Problem& problem, const Part& part, std::span<const std::span<const float>> weights,
                  std::span<float* const> to, int threads) {
  const auto body = [&](std::int64_t task, int) {
    const int begin = static_cast<int>(task) * together, end = std::min(problem.channels, begin + together);
    for (std::size_t i = 0; i < part.branches.size(); i++) {
      const Turned& t = part.branches[i];
      const auto turn = t.sources.size() == 1 ? turn_one : turn_merged;
      for (int c = begin; c < end; c++)
        turn(problem, t, weights, c, to[i] + std::int64_t{c} * t.branch.taps());
    }
  };
  core::parallel_for((problem.channels + together - 1) / together, threads, std::ref(body));
}

}  // namespace replk::depthwise
