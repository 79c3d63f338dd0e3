#include "depthwise/row_buffer.hpp"

#include <algorithm>
#include <cmath>

#include "core/fma.hpp"
#include "core/gelu.hpp"
#include "core/half.hpp"

namespace replk::depthwise {
namespace {

template <class Run>
void with_type(DataType type, Run run) {
  switch (type) {
    case DataType::f32:
      return run(float{});
    case DataType::bf16:
      return run(core::Bf16{});
    case DataType::f16:
      return run(core::F16{});
  }
}

float activate(float x, Activation activation) {
  switch (activation) {
    case Activation::relu:
      return core::relu(x);
    case Activation::gelu:
      return core::gelu(x, [](float a, float b, float c) { return a * b + c; });
    default:
      return x;
  }
}

}  // namespace

void load_row(const RowView& row, const void* tensor, int stride, float* buffer) {
  with_type(row.type, [&](auto word) {
    const auto* from = static_cast<const decltype(word)*>(tensor) + row.first;
    for (int i = 0; i < row.pixels; i++) {
      const auto* pixel = from + i * row.pixel;
      float* to = buffer + static_cast<std::int64_t>(i) * stride;
      for (int c = 0; c < row.channels; c++) to[c] = core::to_float(pixel[c * row.channel]);
      std::fill(to + row.channels, to + stride, 0.0f);
    }
  });
}

void store_row(const RowView& row, const float* buffer, int stride, Activation activation,
               const void* residual, void* dst) {
  with_type(row.type, [&](auto word) {
    using Word = decltype(word);
    Word* to = static_cast<Word*>(dst) + row.first;
    const Word* add = residual ? static_cast<const Word*>(residual) + row.first : nullptr;
    for (int i = 0; i < row.pixels; i++)
      for (int c = 0; c < row.channels; c++) {
        const std::int64_t at = i * row.pixel + c * row.channel;
        float value = activate(buffer[static_cast<std::int64_t>(i) * stride + c], activation);
        if (add) value += core::to_float(add[at]);
        to[at] = core::from_float<Word>(value);
      }
  });
}

}  // namespace replk::depthwise
