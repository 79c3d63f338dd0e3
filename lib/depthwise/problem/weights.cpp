#include "depthwise/problem/weights.hpp"

#include <algorithm>
#include <cstdlib>

#include "core/cpu.hpp"
#include "core/error.hpp"
#include "simd/rows.hpp"

namespace replk::depthwise {
namespace {

void check_size(const char* name, std::span<const float> values, int channels) {
  if (!values.empty() && values.size() != static_cast<std::size_t>(channels))
    core::fail(core::Status::invalid_argument, "{} has {} elements; allowed: {}, one a channel, or none",
               name, values.size(), channels);
}

void copy_channels(std::span<const float> values, int channels, float otherwise, int channel, int lanes,
                   float* to) {
  for (int l = 0; l < lanes; l++)
    to[l] = channel + l >= channels ? 0.0f : values.empty() ? otherwise : values[channel + l];
}

}  // namespace

Weights::Weights(const Problem& p, std::span<const std::span<const float>> branches,
                 std::span<const float> bias, std::span<const float> scale)
    : count_(static_cast<int>(p.branches.size())), channels_(p.channels) {
  if (branches.size() != p.branches.size())
    core::fail(core::Status::invalid_argument,
               "weights of {} branches; allowed: {}, one for each branch of {}", branches.size(),
               p.branches.size(), to_string(p));
  for (int i = 0; i < count_; i++) {
    const Branch& b = p.branches[i];
    if (branches[i].size() != static_cast<std::size_t>(channels_) * b.taps())
      core::fail(core::Status::invalid_argument,
                 "weights of branch {} have {} elements; allowed: {} ({}x{}x{})", i, branches[i].size(),
                 static_cast<std::size_t>(channels_) * b.taps(), channels_, b.kernel_h, b.kernel_w);
    branches_[i] = {branches[i].data(), 1, p.vertical(b), p.horizontal(b)};
  }
  check_size("bias", bias, channels_);
  check_size("scale", scale, channels_);
  if (p.epilogue.bias) bias_ = bias;
  if (p.epilogue.scale) scale_ = scale;
}

Weights Weights::turned() const {
  Weights w = *this;
  for (int i = 0; i < count_; i++) {
    Placed& branch = w.branches_[i];
    branch.values += branch.direction * (branch.vertical.taps * branch.horizontal.taps - 1);
    branch.direction = -branch.direction;
  }
  return w;
}

void Weights::bias(int channel, int lanes, float* to) const {
  copy_channels(bias_, channels_, 0, channel, lanes, to);
}
void Weights::scale(int channel, int lanes, float* to) const {
  copy_channels(scale_, channels_, 1, channel, lanes, to);
}

/// A line of the kernel that has taps of one branch alone.
void Weights::copy(const Line& line, int offset, int taps, int channel, int valid, int lanes, float* to) {
  const int shift = offset - line.axis->offset;  // tap t of the kernel is tap t + shift of the branch
  const int begin = std::clamp(-shift, 0, taps), end = std::clamp(line.axis->taps - shift, begin, taps);
  std::fill_n(to, begin * lanes, 0.0f);
  std::fill_n(to + end * lanes, (taps - end) * lanes, 0.0f);
  if (begin < end)
    simd::pack_rows({DataType::f32, 0, 0, line.next_tap, line.next_channel, end - begin}, line.values,
                    {channel * line.next_channel + (begin + shift) * line.next_tap, valid},
                    to + begin * lanes, {lanes});
}

/// Taps [0, taps) of a line of the kernel whose tap 0 lies at `offset`.
template <class Has>
void Weights::merge(const Lines& lines, int offset, int taps, int channel, int lanes, float* to,
                    Has has) const {
  const int valid = std::clamp(channels_ - channel, 0, lanes);
  if (valid == 0) return static_cast<void>(std::fill_n(to, taps * lanes, 0.0f));
  // Most lines are one branch's alone, and that is a transpose. (Of a kernel that no output meets, the one
  // tap that is left has no support.)
  if (lines.count == 1 && (taps > 1 || has(0)) && lines.all[0].axis->dilation == 1 &&
      std::abs(lines.all[0].next_tap) == 1 && core::cpu().isa >= Isa::avx2) {
    copy(lines.all[0], offset, taps, channel, valid, lanes, to);
    // Of a stripe, some of the branch's taps are the other stripe's.
    for (int t = 0; t < taps; t++)
      if (!has(t)) std::fill_n(to + t * lanes, lanes, 0.0f);
    return;
  }
  for (int t = 0; t < taps; t++) {
    float* tap = to + t * lanes;
    if (!has(t)) {
      std::fill_n(tap, lanes, 0.0f);
      continue;
    }
    double sums[16] = {};
    for (int i = 0; i < lines.count; i++) {
      const Line& line = lines.all[i];
      const int its = line.axis->tap_at(offset + t);
      if (its < 0) continue;
      const float* values = line.values + channel * line.next_channel + its * line.next_tap;
      for (int l = 0; l < valid; l++) sums[l] += values[l * line.next_channel];
    }
    for (int l = 0; l < lanes; l++) tap[l] = static_cast<float>(sums[l]);
  }
}

void Weights::row(const Kernel& k, int a, int channel, int lanes, float* to) const {
  Lines lines;
  for (int i = 0; i < count_; i++) {
    const auto& [values, direction, vertical, horizontal] = branches_[i];
    const int tap = vertical.tap_at(k.offset_h + a);
    const std::int64_t width = horizontal.taps;
    if (tap >= 0)
      lines.all[lines.count++] = {values + direction * tap * width, direction, vertical.taps * width,
                                  &horizontal};
  }
  merge(lines, k.offset_w, k.width, channel, lanes, to, [&](int b) { return k.has(a, b); });
}

const float* Weights::in_one_piece(const Kernel& k, int first, int count) const {
  const auto& [values, direction, vertical, horizontal] = branches_[0];
  if (count_ > 1 || horizontal.offset != k.offset_w || horizontal.taps != k.width) return nullptr;
  if (vertical.dilation != 1 || horizontal.dilation != 1) return nullptr;
  const int tap = vertical.tap_at(k.offset_h + first);
  if (tap < 0 || tap + count > vertical.taps) return nullptr;
  return values + std::int64_t{direction} * tap * k.width;
}

void Weights::rows(const Kernel& k, int first, int count, int channel, int lanes, float* to) const {
  const int valid = std::clamp(channels_ - channel, 0, lanes);
  const float* const values = valid > 0 ? in_one_piece(k, first, count) : nullptr;
  if (values && count * k.width > 1 && core::cpu().isa >= Isa::avx2) {
    const Placed& branch = branches_[0];
    const std::int64_t next_channel = std::int64_t{branch.vertical.taps} * k.width;
    return simd::pack_rows({DataType::f32, 0, 0, branch.direction, next_channel, count * k.width}, values,
                           {channel * next_channel, valid}, to, {lanes});
  }
  for (int i = 0; i < count; i++) row(k, first + i, channel, lanes, to + i * k.width * lanes);
}

void Weights::column(const Kernel& k, int b, int channel, int lanes, float* to) const {
  Lines lines;
  for (int i = 0; i < count_; i++) {
    const auto& [values, direction, vertical, horizontal] = branches_[i];
    const int tap = horizontal.tap_at(k.offset_w + b);
    const std::int64_t width = horizontal.taps;
    if (tap >= 0)
      lines.all[lines.count++] = {values + direction * tap, direction * width, vertical.taps * width,
                                  &vertical};
  }
  merge(lines, k.offset_h, k.height, channel, lanes, to, [&](int a) { return k.has(a, b); });
}

}  // namespace replk::depthwise
