#include "tuner/record.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstdlib>
#include <nlohmann/json.hpp>
#include <sstream>

#include "tuner/json_text.hpp"

namespace replk::tuner {
namespace {

using Json = nlohmann::ordered_json;

/// The library's destructor of an object asks for memory, and a lack of it would end the process: this one
/// empties the tree before, from the leaves up, which asks for none.
struct Tree {
  Json json;
  ~Tree() { empty(json); }
  /// Null where the text is no JSON. Json::parse() would destroy an unfinished tree before we can.
  void read(std::string_view text) {
    std::istringstream stream{std::string(text)};
    try {
      stream >> json;
      if (stream.peek() == std::istringstream::traits_type::eof()) return;
    } catch (const Json::exception&) {
    }
    empty(json);
    json = nullptr;
  }
  static void empty(Json& json) noexcept {
    if (!json.is_structured()) return;
    for (Json& child : json) empty(child);
    json.clear();
  }
};

constexpr std::string_view kCheckField = ",\"check\":\"";
constexpr std::size_t kCheckBytes = kCheckField.size() + 16 + 2;  // the field, 16 hexadecimal digits, "}

std::string dump(const Json& json) {
  return json.dump(-1, ' ', true, Json::error_handler_t::replace);
}

/// FNV-1a, 64 bits: against accidents, not against malice. Every step is a bijection of the state, so a
/// change of a single byte is always seen.
std::uint64_t checksum(std::string_view text) {
  std::uint64_t hash = 0xcbf29ce484222325u;
  for (unsigned char c : text) hash = (hash ^ c) * 0x100000001b3u;
  return hash;
}

/// {"a":1} becomes {"a":1,"check":"..."}.
std::string sealed(const JsonObject& json) {
  std::string text = json.text();
  text.pop_back();
  return text + fmt::format("{}{:016x}\"}}", kCheckField, checksum(text));
}

bool intact(std::string_view line) {
  if (line.size() > kMostLineBytes || line.size() <= kCheckBytes) return false;
  const std::string_view body = line.substr(0, line.size() - kCheckBytes);
  return line.substr(body.size()) == fmt::format("{}{:016x}\"}}", kCheckField, checksum(body));
}

const Json* member(const Json& json, const char* name) {
  const auto found = json.find(name);
  return found == json.end() ? nullptr : &*found;
}

bool take(const Json& json, const char* name, std::string& into) {
  const Json* value = member(json, name);
  if (!value || !value->is_string()) return false;
  into = value->get<std::string>();
  return true;
}

bool take(const Json& json, const char* name, std::int64_t least, std::int64_t most, std::int64_t& into) {
  const Json* value = member(json, name);
  if (!value || !value->is_number_integer()) return false;
  if (value->is_number_unsigned() && value->get<std::uint64_t>() > static_cast<std::uint64_t>(most))
    return false;
  into = value->get<std::int64_t>();
  return least <= into && into <= most;
}

/// An object of strings and integers, as text in our own spelling.
bool take_flat(const Json& json, const char* name, std::string& into) {
  const Json* value = member(json, name);
  if (!value || !value->is_object()) return false;
  for (const Json& field : *value)
    if (!field.is_string() && !field.is_number_integer()) return false;
  into = dump(*value);
  return true;
}

constexpr std::int64_t kMostNanoseconds = 1'000'000'000'000'000;

std::int64_t nanoseconds(double seconds) {
  return std::llround(std::clamp(seconds * 1e9, 0.0, static_cast<double>(kMostNanoseconds)));
}

bool read_record(const Json& json, Record& record) {
  std::int64_t time, rounds, confidence;
  if (!take(json, "shape", record.shape) || !take_flat(json, "key", record.key) ||
      !take_flat(json, "machine", record.machine) || !take(json, "pick", record.pick) ||
      !take(json, "date", record.date) || !take(json, "ns", 0, kMostNanoseconds, time) ||
      !take(json, "rounds", 0, 1'000'000, rounds) || !take(json, "confidence_permille", 0, 1000, confidence))
    return false;
  const Json* tainted = member(json, "tainted");
  if (!tainted || !tainted->is_boolean()) return false;
  record.tainted = tainted->get<bool>();
  record.seconds = static_cast<double>(time) * 1e-9;
  record.rounds = static_cast<int>(rounds);
  record.confidence = static_cast<double>(confidence) / 1000;
  if (const Json* measured = member(json, "measured_ns"); measured && measured->is_object()) {
    for (const auto& [text, value] : measured->items())
      if (value.is_number_integer()) record.measured.emplace_back(text, value.get<double>() * 1e-9);
  }
  return true;
}

}  // namespace

std::string to_line(const Record& record) {
  JsonObject json;
  json.add("v", std::to_string(kCacheVersion));
  json.add("shape", quoted(record.shape));
  json.add("pick", quoted(record.pick));
  json.add("ns", std::to_string(nanoseconds(record.seconds)));
  json.add("rounds", std::to_string(record.rounds));
  json.add("confidence_permille", std::to_string(std::llround(record.confidence * 1000)));
  json.add("tainted", record.tainted ? "true" : "false");
  json.add("date", quoted(record.date));
  json.add("key", record.key);
  json.add("machine", record.machine);
  const std::string name = "measured_ns";
  std::size_t room = kMostLineBytes - kCheckBytes;
  const std::size_t used = json.text().size() + name.size() + 6;  // quotes, comma, colon and braces
  room = room > used ? room - used : 0;
  JsonObject measured;
  for (const auto& [text, seconds] : record.measured) {
    const std::string time = std::to_string(nanoseconds(seconds));
    const std::size_t needed = quoted(text).size() + time.size() + 2;  // : and ,
    if (needed > room) break;
    room -= needed;
    measured.add(text, time);
  }
  json.add(name, measured.text());
  return sealed(json);
}

Line read_line(std::string_view text) {
  Line line;
  if (!intact(text)) return line;
  Tree tree;
  tree.read(text);  // not recursive; at most kMostLineBytes
  const Json& json = tree.json;
  if (!json.is_object()) return line;
  std::int64_t version;
  const bool header = take(json, "replk_tune_cache", 1, 1'000'000, version);
  if (!header && !take(json, "v", 1, 1'000'000, version)) return line;
  if (version > kCacheVersion) {
    line.kind = LineKind::newer;
  } else if (header) {
    line.kind = LineKind::header;
  } else if (read_record(json, line.record)) {
    line.kind = LineKind::record;
    line.record.line = text;
  }
  return line;
}

std::string header_line() {
  JsonObject json;
  json.add("replk_tune_cache", std::to_string(kCacheVersion));
  json.add("about", quoted("one choice a line; safe to delete; see replk cache --help"));
  return sealed(json);
}

std::optional<double> distance(const Key& key, const std::string& record_key) {
  Tree tree;
  tree.read(record_key);
  const Json& other = tree.json;
  if (!other.is_object() || other.size() != key.fields.size()) return std::nullopt;
  double sum = 0;
  for (const KeyField& field : key.fields) {
    const Json* value = member(other, field.name.c_str());
    if (!value) return std::nullopt;
    if (!field.numeric()) {
      if (!value->is_string() || value->get_ref<const std::string&>() != field.value) return std::nullopt;
      continue;
    }
    if (!value->is_number_integer()) return std::nullopt;
    // One more than the value: zero (a padding) has a logarithm too.
    const double a = std::strtod(field.value.c_str(), nullptr) + 1, b = value->get<double>() + 1;
    if (!(a > 0) || !(b > 0)) return std::nullopt;
    sum += field.weight * std::abs(std::log2(a / b));
  }
  return sum;
}

}  // namespace replk::tuner
