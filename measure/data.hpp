// Seeded weights and tensors of a problem, in its storage type.
#pragma once
#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "core/memory.hpp"
#include "depthwise/algorithm.hpp"
#include "depthwise/problem/problem.hpp"

namespace replk::bench {

struct Data {
  std::vector<core::Buffer<float>> weights;    // a branch each
  core::Buffer<float> bias, scale;             // scale: where the problem has one
  core::Buffer<std::byte> src, residual, dst;  // at least so large; dst begins as zeros

  Data(const depthwise::Problem& problem, std::uint64_t seed);
  std::vector<std::span<const float>> weight_spans() const;
  std::span<const float> bias_span() const { return {bias.data(), bias.size()}; }
  std::span<const float> scale_span() const { return {scale.data(), scale.size()}; }
  depthwise::Tensors tensors() { return {src.data(), dst.data(), residual.data()}; }
};

/// Rounds to the values that a storage type has.
void round_to(DataType type, core::Buffer<float>& values);

}  // namespace replk::bench
