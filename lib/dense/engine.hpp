// What computes a dense layer, once chosen: inside the box only.
#pragma once
#include <cstddef>
#include <string>

namespace replk::dense {

/// Immutable and thread-safe.
class Engine {
 public:
  virtual ~Engine() = default;
  virtual std::string implementation() const = 0;
  virtual std::size_t scratch_bytes() const = 0;
  /// residual: null, or what is added last; it may equal dst.
  virtual void run(const float* src, float* dst, const float* residual, void* scratch) const = 0;
};

}  // namespace replk::dense
