#include "tuner/key.hpp"

#include <cstdlib>

#include "core/cpu.hpp"
#include "tuner/json_text.hpp"

namespace replk::tuner {
KeyField word(std::string_view name, std::string_view value) {
  return {std::string(name), std::string(value), 0};
}

KeyField number(std::string_view name, std::int64_t value, double weight) {
  return {std::string(name), std::to_string(value), weight};
}

std::string Key::json() const {
  JsonObject object;
  for (const KeyField& field : fields)
    object.add(field.name, field.numeric() ? std::to_string(std::strtoll(field.value.c_str(), nullptr, 10))
                                           : quoted(field.value));
  return object.text();
}

const std::string& machine_json() {
  static const std::string text = [] {
    const core::Cpu& cpu = core::cpu();
    JsonObject object;
    object.add("vendor", quoted(cpu.vendor));
    object.add("family", std::to_string(cpu.family));
    object.add("model", std::to_string(cpu.model));
    object.add("stepping", std::to_string(cpu.stepping));
    object.add("isa", quoted(std::string(name(cpu.isa))));
    object.add("l1d", std::to_string(cpu.l1d_bytes));
    object.add("l2", std::to_string(cpu.l2_bytes));
    object.add("l3", std::to_string(cpu.l3_bytes));
    object.add("cores", std::to_string(cpu.cores));
    return object.text();
  }();
  return text;
}

}  // namespace replk::tuner
