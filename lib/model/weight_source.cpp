#include "model/weight_source.hpp"

#include "core/error.hpp"
#include "model/safetensors.hpp"

namespace replk::model {
namespace {

class FileSource : public WeightSource {
 public:
  explicit FileSource(const std::string& path) : file_(path) {}
  std::string describe() const override { return file_.path(); }
  std::vector<std::string> names() const override {
    std::vector<std::string> names;
    for (const auto& [name, tensor] : file_.tensors()) names.push_back(name);
    return names;
  }
  const Shape* shape(std::string_view name) const override {
    const auto found = file_.tensors().find(name);
    return found == file_.tensors().end() ? nullptr : &found->second.shape;
  }
  void read(std::string_view name, std::span<float> destination) const override {
    file_.read(name, destination);
  }
  std::string dtype(std::string_view name) const override { return file_.tensors().find(name)->second.dtype; }
  void read_bytes(std::string_view name, std::span<std::byte> destination) const override {
    file_.read_bytes(name, destination);
  }
  std::string metadata(std::string_view key) const override {
    const auto found = file_.metadata().find(key);
    return found == file_.metadata().end() ? std::string() : found->second;
  }

 private:
  SafetensorsFile file_;
};

}  // namespace

void WeightSource::read_bytes(std::string_view name, std::span<std::byte> destination) const {
  read(name, {reinterpret_cast<float*>(destination.data()), destination.size() / sizeof(float)});
}

std::string to_string(const Shape& shape) {
  std::string text = "[";
  for (std::size_t i = 0; i < shape.size(); ++i) text += (i ? ", " : "") + std::to_string(shape[i]);
  return text + "]";
}

std::int64_t elements(const Shape& shape) {
  std::int64_t count = 1;
  for (std::int64_t side : shape) count *= side;
  return count;
}

std::unique_ptr<WeightSource> open_safetensors(const std::string& path) {
  return std::make_unique<FileSource>(path);
}

}  // namespace replk::model
