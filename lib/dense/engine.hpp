// What computes a dense layer, once chosen: inside the box only.
#pragma once
#include <cstddef>
#include <string>

#include "dense/dense.hpp"

namespace replk::dense {

/// Immutable and thread-safe.
class Engine {
 public:
  virtual ~Engine() = default;
  virtual std::string implementation() const = 0;
  virtual std::size_t scratch_bytes() const = 0;
  /// What a run reads first, where it helps to prefetch it.
  virtual core::Prefetch prefetch() const { return {}; }
  /// Of a convolution: src and dst alone.
  virtual void run(const LinearRun& tensors) const = 0;
};

}  // namespace replk::dense
