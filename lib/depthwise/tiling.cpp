#include "depthwise/tiling.hpp"

#include <algorithm>

#include "core/error.hpp"

namespace replk::depthwise {

Tiling& Tiling::set(std::string_view name, std::string_view value) {
  for (auto& [known, old] : fields)
    if (known == name) return old = value, *this;
  fields.emplace_back(name, value);
  return *this;
}

Tiling& Tiling::set(std::string_view name, int value) {
  return set(name, std::string_view(std::to_string(value)));
}

int Tiling::number(std::string_view name, int otherwise) const {
  std::string_view text = word(name);
  const bool negative = text.starts_with('-');
  if (negative) text.remove_prefix(1);
  if (text.empty() || text.size() > 9) return otherwise;
  int value = 0;
  for (char c : text) {
    if (c < '0' || c > '9') return otherwise;
    value = value * 10 + (c - '0');
  }
  return negative ? -value : value;
}

std::string_view Tiling::word(std::string_view name) const {
  for (const auto& [known, value] : fields)
    if (known == name) return value;
  return {};
}

std::string Tiling::to_string() const {
  std::string text = algorithm;
  for (const auto& [name, value] : fields) text += " " + name + "=" + value;
  return text;
}

Tiling Tiling::parse(std::string_view text) {
  const auto refuse = [&](std::string_view why) {
    std::string shown(text.substr(0, 256));
    std::replace_if(
        shown.begin(), shown.end(), [](char c) { return c < ' ' || c > '~'; }, '?');
    core::fail(core::Status::invalid_argument,
               "tiling '{}': {}; allowed: an algorithm, then name=value fields", shown, why);
  };
  if (text.size() > 256) refuse("longer than 256 characters");
  if (!std::all_of(text.begin(), text.end(), [](char c) { return c >= ' ' && c <= '~'; }))
    refuse("unprintable");
  Tiling tiling;
  for (std::size_t at = 0; at <= text.size();) {
    const std::size_t end = std::min(text.find(' ', at), text.size());
    const std::string_view part = text.substr(at, end - at);
    const std::size_t equals = part.find('=');
    if (at == 0) {
      if (part.empty() || equals != part.npos) refuse("no algorithm");
      tiling.algorithm = part;
    } else {
      if (equals == part.npos || equals == 0 || equals + 1 == part.size() ||
          part.find('=', equals + 1) != part.npos)
        refuse(fmt::format("'{}' is not name=value", part));
      if (!tiling.word(part.substr(0, equals)).empty()) refuse(fmt::format("'{}' is given twice", part));
      tiling.fields.emplace_back(part.substr(0, equals), part.substr(equals + 1));
    }
    at = end + 1;
  }
  return tiling;
}

}  // namespace replk::depthwise
