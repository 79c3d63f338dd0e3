#include "plans.hpp"

#include <algorithm>
#include <cstring>

namespace replk_torch {

namespace {
constexpr std::size_t whole = 32 << 10, samples = 64;
}

Weights::Weights(const void* weight, std::size_t bytes, const void* bias, std::size_t bias_bytes,
                 std::int64_t version)
    : weight_(weight), bias_(bias), version_(version) {
  take(weight, bytes);
  take(bias, bias_bytes);
}

void Weights::take(const void* data, std::size_t bytes) {
  const auto* from = static_cast<const unsigned char*>(data);
  const std::size_t at = values_.size();
  if (bytes <= whole) {
    values_.resize(at + (bytes + 3) / 4);
    if (bytes) std::memcpy(&values_[at], from, bytes);
    return;
  }
  // Words at a stride that is no multiple of a kernel's row, first and last included.
  values_.resize(at + samples);
  const std::size_t words = bytes / 4;
  for (std::size_t i = 0; i < samples; i++)
    std::memcpy(&values_[at + i], from + 4 * (i * (words - 1) / (samples - 1)), 4);
}

}  // namespace replk_torch
