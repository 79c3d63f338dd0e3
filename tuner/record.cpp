#include "tuner/record.hpp"

#include <fmt/format.h>

#include <cmath>
#include <cstdint>
#include <cstdlib>
#include <nlohmann/json.hpp>

namespace replk::tuner {
namespace {

using Json = nlohmann::ordered_json;

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
std::string sealed(const Json& json) {
  std::string text = dump(json);
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
  Json json;
  json["v"] = kCacheVersion;
  json["shape"] = record.shape;
  json["pick"] = record.pick;
  json["ns"] = nanoseconds(record.seconds);
  json["rounds"] = record.rounds;
  json["confidence_permille"] = std::llround(record.confidence * 1000);
  json["tainted"] = record.tainted;
  json["date"] = record.date;
  json["key"] = Json::parse(record.key);
  json["machine"] = Json::parse(record.machine);
  Json& measured = json["measured_ns"] = Json::object();
  std::size_t room = kMostLineBytes - kCheckBytes;
  const std::size_t used = dump(json).size();
  room = room > used ? room - used : 0;
  for (const auto& [text, seconds] : record.measured) {
    const std::size_t needed =
        dump(text).size() + std::to_string(nanoseconds(seconds)).size() + 2;  // : and ,
    if (needed > room) break;
    room -= needed;
    measured[text] = nanoseconds(seconds);
  }
  return sealed(json);
}

Line read_line(std::string_view text) {
  Line line;
  if (!intact(text)) return line;
  const Json json =
      Json::parse(text, nullptr, false);  // no exceptions; not recursive; at most kMostLineBytes
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
  Json json;
  json["replk_tune_cache"] = kCacheVersion;
  json["about"] = "one choice a line; safe to delete; see replk cache --help";
  return sealed(json);
}

std::optional<double> distance(const Key& key, const std::string& record_key) {
  const Json other = Json::parse(record_key, nullptr, false);
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
