// Where the tensors of a network come from: a file, or a seed.
#pragma once
#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace replk::model {

using Shape = std::vector<std::int64_t>;

std::string to_string(const Shape& shape);  // [64, 1, 31, 31]
std::int64_t elements(const Shape& shape);

/// Named fp32 tensors. const and thread-safe.
class WeightSource {
 public:
  virtual ~WeightSource() = default;
  /// For error messages: the file's name, or `seed 1`.
  virtual std::string describe() const = 0;
  virtual std::vector<std::string> names() const = 0;
  /// Null where there is no such tensor.
  virtual const Shape* shape(std::string_view name) const = 0;
  /// Reads a whole tensor; destination has its number of elements. Throws not_found or bad_file.
  virtual void read(std::string_view name, std::span<float> destination) const = 0;
  /// A tensor's type as .safetensors spells it; there is such a tensor.
  virtual std::string dtype(std::string_view) const { return "F32"; }
  /// Reads a whole tensor as it is stored; destination has its number of bytes. Only files and StoredTensors
  /// hold types other than fp32.
  virtual void read_bytes(std::string_view name, std::span<std::byte> destination) const;
  /// Free text the file carries (`labels`, `model`); empty where there is none.
  virtual std::string metadata(std::string_view key) const = 0;
};

/// A .safetensors file in train, merged or fused form. Throws not_found or bad_file. Tensors are read when
/// asked for.
std::unique_ptr<WeightSource> open_safetensors(const std::string& path);

struct Architecture;

/// The train-form tensors of an architecture, generated from a seed: the same bits on every machine. Scales
/// are He's, so that activations stay near 1; BN statistics are random and far from identity.
std::unique_ptr<WeightSource> seeded_weights(const Architecture& architecture, std::uint64_t seed);

}  // namespace replk::model
