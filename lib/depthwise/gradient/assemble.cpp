#include "depthwise/gradient/assemble.hpp"

#include <algorithm>
#include <functional>

#include "core/half.hpp"
#include "core/threads.hpp"

namespace replk::depthwise {
Assembly::Assembly(const Problem& p, const std::vector<Part>& parts)
    : problem_(p), classes_(static_cast<std::size_t>(p.stride_h) * p.stride_w) {
  for (const Part& part : parts) {
    const Problem& q = part.problem;
    classes_[part.row % p.stride_h * p.stride_w + part.column % p.stride_w].push_back(
        static_cast<int>(places_.size()));
    places_.push_back({part.row, part.column, q.out_height(), q.out_width(), elements_, q.output_strides()});
    elements_ += q.output_values(1);
  }
  std::int64_t pixels = 0;
  for (const Place& place : places_) pixels += std::int64_t{place.rows} * place.columns;
  holes_ = pixels < std::int64_t{p.height} * p.width;
  overlap_ = std::any_of(classes_.begin(), classes_.end(), [](const auto& all) { return all.size() > 1; });
}

int Assembly::find(int y, int x, FoundPlaces& found) const {
  const int stride_h = problem_.stride_h, stride_w = problem_.stride_w;
  int count = 0;
  for (const int index : classes_[y % stride_h * stride_w + x % stride_w]) {
    const Place& place = places_[index];
    if (y < place.row || x < place.column) continue;
    const int row = (y - place.row) / stride_h, column = (x - place.column) / stride_w;
    if (row < place.rows && column < place.columns)
      found[count++] = {&place, place.offset + row * place.at.row + column * place.at.pixel};
  }
  return count;
}

/// Rows of dx, each with all channels that lie beside each other in memory: row(image, y, channel, channels).
template <class Row>
void Assembly::for_rows(std::int64_t images, int threads, const Row& row) const {
  const int height = problem_.height, channels = problem_.input_channels();
  const bool planes = problem_.layout == Layout::nchw;
  const std::int64_t each = planes ? channels : 1;
  const auto body = [&](std::int64_t task, int) {
    const int y = static_cast<int>(task % height), c = static_cast<int>(task / height % each);
    row(task / height / each, y, c, planes ? 1 : channels);
  };
  core::parallel_for(images * each * height, threads, std::ref(body));
}

template <class T>
void Assembly::fill_row(T* dx, int y, int channel, int channels) const {
  const Strides at = problem_.input_strides();
  FoundPlaces found;
  for (int x = 0; x < problem_.width; x++)
    if (find(y, x, found) == 0)
      std::fill_n(dx + y * at.row + x * at.pixel + channel * at.channel, channels, T{});
}

void Assembly::fill_holes(void* dx, std::int64_t batch, int threads) const {
  core::with_type(problem_.type, [&](auto type) {
    using T = decltype(type);
    const std::int64_t image = problem_.input_strides().image;
    for_rows(batch, threads, [&](std::int64_t n, int y, int channel, int channels) {
      fill_row(static_cast<T*>(dx) + n * image, y, channel, channels);
    });
  });
}

template <class S, class T>
void Assembly::sum_row(const S* results, T* dx, int y, int channel, int channels) const {
  const Strides at = problem_.input_strides();
  const int multiplier = problem_.multiplier;
  FoundPlaces found;
  for (int x = 0; x < problem_.width; x++) {
    const int count = find(y, x, found);
    T* const to = dx + y * at.row + x * at.pixel;
    for (int c = channel; c < channel + channels; c++) {
      double sum = 0;
      for (int i = 0; i < count; i++)
        for (int j = 0; j < multiplier; j++)
          sum += core::to_float(
              results[found[i].at + (std::int64_t{c} * multiplier + j) * found[i].place->at.channel]);
      to[c * at.channel] = core::from_float<T>(static_cast<float>(sum));
    }
  }
}

void Assembly::sum(const void* results, bool wide, void* dx, int threads) const {
  core::with_type(problem_.type, [&](auto type) {
    using T = decltype(type);
    for_rows(1, threads, [&](std::int64_t, int y, int channel, int channels) {
      if (wide)
        sum_row(static_cast<const float*>(results), static_cast<T*>(dx), y, channel, channels);
      else
        sum_row(static_cast<const T*>(results), static_cast<T*>(dx), y, channel, channels);
    });
  });
}

void Assembly::widen(const void* dy, float* to, int threads) const {
  Problem dense = problem_;
  dense.dst_strides.reset();
  const Strides from = problem_.output_strides(), into = dense.output_strides();
  const int height = problem_.out_height(), width = problem_.out_width();
  const bool planes = problem_.output_layout() == Layout::nchw;
  // Lines of elements that lie beside each other: a row of a channel, or the channels of a pixel.
  const std::int64_t lines = std::int64_t{height} * (planes ? problem_.channels : width);
  const int count = planes ? width : problem_.channels;
  core::with_type(problem_.type, [&](auto type) {
    const auto* source = static_cast<const decltype(type)*>(dy);
    const auto body = [&](std::int64_t line, int) {
      const std::int64_t y = line % height, other = line / height;
      const auto begin = [&](const Strides& s) { return y * s.row + other * (planes ? s.channel : s.pixel); };
      for (int i = 0; i < count; i++) to[begin(into) + i] = core::to_float(source[begin(from) + i]);
    };
    core::parallel_for(lines, threads, std::ref(body));
  });
}

}  // namespace replk::depthwise
