#include "tuner/key.hpp"

#include <cstdlib>
#include <nlohmann/json.hpp>

#include "core/cpu.hpp"

namespace replk::tuner {
namespace {

using Json = nlohmann::ordered_json;

std::string dump(const Json& json) {
  return json.dump(-1, ' ', true, Json::error_handler_t::replace);
}

}  // namespace

KeyField word(std::string_view name, std::string_view value) {
  return {std::string(name), std::string(value), 0};
}

KeyField number(std::string_view name, std::int64_t value, double weight) {
  return {std::string(name), std::to_string(value), weight};
}

std::string Key::json() const {
  Json json = Json::object();
  for (const KeyField& field : fields) {
    if (field.numeric())
      json[field.name] = std::strtoll(field.value.c_str(), nullptr, 10);
    else
      json[field.name] = field.value;
  }
  return dump(json);
}

const std::string& machine_json() {
  static const std::string text = [] {
    const core::Cpu& cpu = core::cpu();
    Json json;
    json["vendor"] = cpu.vendor;
    json["family"] = cpu.family;
    json["model"] = cpu.model;
    json["stepping"] = cpu.stepping;
    json["isa"] = std::string(name(cpu.isa));
    json["l1d"] = cpu.l1d_bytes;
    json["l2"] = cpu.l2_bytes;
    json["l3"] = cpu.l3_bytes;
    json["cores"] = cpu.cores;
    return dump(json);
  }();
  return text;
}

}  // namespace replk::tuner
