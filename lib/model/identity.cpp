#include "model/identity.hpp"

#include <algorithm>
#include <set>

#include "core/error.hpp"
#include "core/log.hpp"

namespace replk::model {
namespace {

std::string first_part(const std::string& name) {
  return name.substr(0, name.find('.'));
}

/// The names a BN's tensors have, without its counter; none where the prefix is empty.
std::vector<std::string> batch_norm_names(const std::string& prefix) {
  if (prefix.empty()) return {};
  return {prefix + ".weight", prefix + ".bias", prefix + ".running_mean", prefix + ".running_var"};
}

/// Every name that a layer's tensors may have, in whichever form the file is.
std::vector<std::string> tensor_names(const Layer& layer) {
  std::vector<std::string> names;
  const auto add = [&](const std::vector<std::string>& more) {
    for (const std::string& name : more)
      if (!name.empty()) names.push_back(name);
  };
  const auto add_convolution = [&](const ConvTensors& tensors) {
    add({tensors.weight, tensors.bias});
    add(batch_norm_names(tensors.batch_norm));
  };
  std::visit(Overloaded{[&](const Depthwise& d) {
                          for (const ConvTensors& tensors : d.tensors) add_convolution(tensors);
                          add_convolution(d.merged);
                          add(batch_norm_names(d.sum_batch_norm));
                        },
                        [&](const Linear& l) {
                          add_convolution(l.tensors);
                          add(batch_norm_names(l.input_batch_norm));
                          add({l.input_offset, l.output_scale});
                        },
                        [&](const Convolution& c) { add_convolution(c.tensors); },
                        [&](const Norm& n) { add_convolution(n.tensors); },
                        [&](const SqueezeExcite& s) { add_convolution(s.down), add_convolution(s.up); },
                        [](const Weightless&) {}},
             layer.operation);
  return names;
}

std::string list_of(const std::vector<std::string>& names) {
  constexpr std::size_t shown = 8;
  std::string list;
  for (std::size_t i = 0; i < std::min(names.size(), shown); ++i)
    list += fmt::format("{}'{}'", i ? ", " : "", names[i]);
  return names.size() > shown ? list + fmt::format(" and {} more", names.size() - shown) : list;
}

}  // namespace

void check_model_name(const Architecture& architecture, const WeightSource& weights) {
  const std::string said = weights.metadata("model");
  const std::vector<std::string> known = architecture_names();
  if (base_name(said) == base_name(architecture.name) ||
      std::find(known.begin(), known.end(), base_name(said)) == known.end())
    return;
  core::fail(core::Status::bad_file, "{}: metadata: model is {}; {} was asked for", weights.describe(),
             said.substr(0, 64), architecture.name);
}

void check_leftovers(const Architecture& architecture, const TensorReader& reader) {
  const bool has_head = architecture.classes > 0;
  const Graph whole = build_graph(architecture, std::max(architecture.classes, 1));
  std::set<std::string> first_parts, optional;
  for (std::size_t i = 0; i < whole.layers.size(); ++i)
    for (const std::string& name : tensor_names(whole.layers[i])) {
      first_parts.insert(first_part(name));
      if (!has_head && i >= static_cast<std::size_t>(whole.features_end)) optional.insert(name);
    }
  for (const Stage& stage : whole.stages)
    for (const std::string& name : stage.norm_tensors()) optional.insert(name);

  std::vector<std::string> own, foreign;
  for (const std::string& name : reader.unread())
    if (!optional.contains(name)) (first_parts.contains(first_part(name)) ? own : foreign).push_back(name);
  if (!own.empty())
    core::fail(core::Status::bad_file,
               "{}: {} has no place for {}: the file is of another network, or holds a layer in two forms",
               reader.source().describe(), architecture.name, list_of(own));
  if (!foreign.empty())
    core::log(core::LogLevel::warning, "{}: {} tensors are not the model's and were left out: {}",
              reader.source().describe(), foreign.size(), list_of(foreign));
}

}  // namespace replk::model
