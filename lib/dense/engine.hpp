// What computes a dense layer, once chosen: inside the box only.
#pragma once
#include <cstddef>
#include <span>
#include <string>

namespace replk::dense {

/// Immutable and thread-safe.
class Engine {
 public:
  virtual ~Engine() = default;
  virtual std::string implementation() const = 0;
  virtual std::size_t scratch_bytes() const = 0;
  /// residual: null, or what is added last; it may equal dst. next: what will be read after this run, to be
  /// called up from memory meanwhile where that is possible.
  virtual void run(const float* src, float* dst, const float* residual, void* scratch,
                   std::span<const std::byte> next) const = 0;
};

}  // namespace replk::dense
