// Tensors in memory that a test may change before a network is made of them.
#pragma once
#include <algorithm>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "goldens.hpp"
#include "model/weight_source.hpp"

namespace replk::model {

/// Another source's tensors, with some taken away or put in their place.
class ChangedSource : public WeightSource {
 public:
  explicit ChangedSource(const WeightSource& source) {
    for (const std::string& name : source.names()) {
      auto& [shape, values] = tensors[name];
      shape = *source.shape(name);
      values.resize(static_cast<std::size_t>(elements(shape)));
      if (!name.ends_with("num_batches_tracked")) source.read(name, values);
    }
  }
  explicit ChangedSource(const std::string& golden_name)
      : ChangedSource(*open_safetensors(golden(golden_name))) {
    head_norm_epsilon = open_safetensors(golden(golden_name))->metadata("head_norm_epsilon");
  }

  std::map<std::string, std::pair<Shape, std::vector<float>>, std::less<>> tensors;
  std::string model, head_norm_epsilon;  // in the metadata

  std::string describe() const override { return "changed.safetensors"; }
  std::vector<std::string> names() const override {
    std::vector<std::string> names;
    for (const auto& [name, tensor] : tensors) names.push_back(name);
    return names;
  }
  const Shape* shape(std::string_view name) const override {
    const auto found = tensors.find(name);
    return found == tensors.end() ? nullptr : &found->second.first;
  }
  void read(std::string_view name, std::span<float> destination) const override {
    const auto& values = tensors.find(name)->second.second;
    std::copy(values.begin(), values.end(), destination.begin());
  }
  std::string metadata(std::string_view key) const override {
    return key == "model" ? model : key == "head_norm_epsilon" ? head_norm_epsilon : "";
  }
};

}  // namespace replk::model
