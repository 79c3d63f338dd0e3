#include "model/stored_tensors.hpp"

#include <algorithm>
#include <cstring>

#include "core/error.hpp"
#include "core/half.hpp"
#include "model/safetensors.hpp"

namespace replk::model {
namespace {

template <class T>
void widen(const std::byte* bytes, std::span<float> destination) {
  for (std::size_t i = 0; i < destination.size(); ++i) {
    T value;
    std::memcpy(&value, bytes + i * sizeof value, sizeof value);
    destination[i] = core::to_float(value);
  }
}

}  // namespace

void StoredTensors::add(const std::string& name, std::string dtype, Shape shape, const void* bytes) {
  const std::uint64_t size = byte_size({name, shape, nullptr, dtype});
  Tensor tensor{std::move(dtype), std::move(shape), core::Buffer<std::byte>(size)};
  std::memcpy(tensor.bytes.data(), bytes, size);
  if (!tensors_.emplace(name, std::move(tensor)).second)
    core::fail(core::Status::internal, "{}: '{}' is there already", description_, name);
}

void StoredTensors::add_floats(const std::string& name, Shape shape, const float* values) {
  add(name, "F32", std::move(shape), values);
}

std::size_t StoredTensors::bytes() const {
  std::size_t sum = 0;
  for (const auto& [name, tensor] : tensors_) sum += tensor.bytes.size();
  return sum;
}

void StoredTensors::write(const std::string& path) const {
  std::vector<TensorToWrite> all;
  for (const auto& [name, tensor] : tensors_)
    all.push_back({name, tensor.shape, tensor.bytes.data(), tensor.dtype});
  const auto element_bytes = [](const TensorToWrite& tensor) {
    return byte_size({tensor.name, {1}, nullptr, tensor.dtype});
  };
  std::stable_sort(all.begin(), all.end(), [&](const TensorToWrite& a, const TensorToWrite& b) {
    return element_bytes(a) > element_bytes(b);
  });
  write_safetensors(path, all, {metadata_.begin(), metadata_.end()});
}

std::vector<std::string> StoredTensors::names() const {
  std::vector<std::string> names;
  for (const auto& [name, tensor] : tensors_) names.push_back(name);
  return names;
}

const Shape* StoredTensors::shape(std::string_view name) const {
  const auto found = tensors_.find(name);
  return found == tensors_.end() ? nullptr : &found->second.shape;
}

std::string StoredTensors::dtype(std::string_view name) const {
  return tensors_.find(name)->second.dtype;
}

void StoredTensors::read(std::string_view name, std::span<float> destination) const {
  const Tensor& tensor = tensors_.find(name)->second;
  if (tensor.dtype == "F32")
    std::memcpy(destination.data(), tensor.bytes.data(), tensor.bytes.size());
  else if (tensor.dtype == "F16")
    widen<core::F16>(tensor.bytes.data(), destination);
  else if (tensor.dtype == "BF16")
    widen<core::Bf16>(tensor.bytes.data(), destination);
  else
    core::fail(core::Status::bad_file, "{}: '{}': dtype {} cannot be used; F32, F16 and BF16 can",
               description_, name, tensor.dtype);
}

void StoredTensors::read_bytes(std::string_view name, std::span<std::byte> destination) const {
  const Tensor& tensor = tensors_.find(name)->second;
  std::memcpy(destination.data(), tensor.bytes.data(), tensor.bytes.size());
}

std::string StoredTensors::metadata(std::string_view key) const {
  const auto found = metadata_.find(key);
  return found == metadata_.end() ? std::string() : found->second;
}

}  // namespace replk::model
