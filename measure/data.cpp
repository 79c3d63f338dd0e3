#include "measure/data.hpp"

#include <cmath>
#include <random>

#include "core/half.hpp"
#include "measure/onednn/tensor_memory.hpp"

namespace replk::bench {
namespace {

using depthwise::Branch;
using depthwise::Problem;

float random_float(std::mt19937_64& random, float scale) {
  return scale * (static_cast<float>(random() >> 40) * 0x1p-23f - 1.0f);
}

core::Buffer<float> random_floats(std::size_t count, std::mt19937_64& random, float scale) {
  core::Buffer<float> values(count);
  for (float& v : values) v = random_float(random, scale);
  return values;
}

template <class T>
void fill(core::Buffer<std::byte>& buffer, std::int64_t elements, std::mt19937_64& random) {
  T* const data = reinterpret_cast<T*>(buffer.data());
  const bool integers = std::is_integral_v<T>;
  for (std::int64_t i = 0; i < elements; i++)
    data[i] = core::from_float<T>(integers ? 128 + random_float(random, 127) : random_float(random, 1));
}

core::Buffer<std::byte> random_tensor(DataType type, std::int64_t elements, std::mt19937_64& random) {
  core::Buffer<std::byte> buffer = tensor_memory(static_cast<std::size_t>(elements) * size_of(type));
  core::with_type(type, [&](auto stored) { fill<decltype(stored)>(buffer, elements, random); });
  return buffer;
}

}  // namespace

Data::Data(const Problem& p, std::uint64_t seed)
    : dst(tensor_memory(static_cast<std::size_t>(p.output_elements()) * size_of(p.output_type()))) {
  std::mt19937_64 random(seed);
  for (const Branch& b : p.branches)
    weights.push_back(random_floats(static_cast<std::size_t>(p.channels) * b.taps(), random,
                                    1 / std::sqrt(static_cast<float>(b.taps()))));
  bias = random_floats(p.epilogue.bias ? p.channels : 0, random, 0.1f);
  src = random_tensor(p.type, p.input_elements(), random);
  residual = random_tensor(p.output_type(), p.epilogue.residual ? p.output_elements() : 0, random);
  scale = random_floats(p.epilogue.scale ? p.channels : 0, random, 1);
}

std::vector<std::span<const float>> Data::weight_spans() const {
  std::vector<std::span<const float>> spans;
  for (const auto& w : weights) spans.emplace_back(w.data(), w.size());
  return spans;
}

void round_to(DataType type, core::Buffer<float>& values) {
  for (float& v : values) {
    if (type == DataType::bf16) v = core::to_float(core::from_float<core::Bf16>(v));
    if (type == DataType::f16) v = core::to_float(core::from_float<core::F16>(v));
  }
}

}  // namespace replk::bench
