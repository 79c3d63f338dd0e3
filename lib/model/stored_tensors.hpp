// Tensors of any type in memory, as a file would hold them: what `replk quantize` writes, and what int8
// weights that are made while loading are read from, so that both are the same.
#pragma once
#include <functional>
#include <map>
#include <string>
#include <vector>

#include "core/memory.hpp"
#include "model/weight_source.hpp"

namespace replk::model {

/// const member functions are thread-safe.
class StoredTensors : public WeightSource {
 public:
  explicit StoredTensors(std::string description) : description_(std::move(description)) {}

  /// dtype: F32, F16, BF16 or I8; bytes: as many as dtype and shape say. A name is added once.
  void add(const std::string& name, std::string dtype, Shape shape, const void* bytes);
  void add_floats(const std::string& name, Shape shape, const float* values);
  void set_metadata(const std::string& key, std::string value) { metadata_[key] = std::move(value); }
  std::size_t bytes() const;
  /// As a .safetensors file, types with the largest elements first, so that all are aligned. Throws
  /// invalid_argument naming the path and the system's reason.
  void write(const std::string& path) const;

  std::string describe() const override { return description_; }
  std::vector<std::string> names() const override;
  const Shape* shape(std::string_view name) const override;
  std::string dtype(std::string_view name) const override;
  /// Of F32, F16 and BF16.
  void read(std::string_view name, std::span<float> destination) const override;
  void read_bytes(std::string_view name, std::span<std::byte> destination) const override;
  std::string metadata(std::string_view key) const override;

 private:
  struct Tensor {
    std::string dtype;
    Shape shape;
    core::Buffer<std::byte> bytes;
  };
  std::string description_;
  std::map<std::string, Tensor, std::less<>> tensors_;
  std::map<std::string, std::string, std::less<>> metadata_;
};

}  // namespace replk::model
