#include "model/labels.hpp"

#include <algorithm>
#include <cerrno>
#include <cstdint>
#include <cstring>
#include <fstream>
#include <iterator>
#include <nlohmann/json.hpp>
#include <sstream>
#include <string_view>
#include <utility>

#include "core/error.hpp"

namespace replk::model {
namespace {

using core::Status;
constexpr std::size_t max_bytes = 16 << 20;
constexpr const char* blanks = " \t\r\n";

void append_utf8(std::string& text, std::uint32_t c) {
  if (c < 0x80) {
    text += static_cast<char>(c);
    return;
  }
  const int more = c < 0x800 ? 1 : c < 0x10000 ? 2 : 3;
  constexpr std::uint32_t lead[] = {0, 0xc0, 0xe0, 0xf0};
  text += static_cast<char>(lead[more] | c >> (6 * more));
  for (int i = more - 1; i >= 0; i--) text += static_cast<char>(0x80 | ((c >> (6 * i)) & 0x3f));
}

/// Half of a surrogate pair alone becomes bytes that are not UTF-8, and is refused as such.
std::string from_utf16(std::string_view bytes, bool big_endian, const std::string& source) {
  if (bytes.size() % 2 != 0) core::fail(Status::bad_file, "{}: labels: UTF-16 with half a character", source);
  const auto unit = [&](std::size_t i) -> std::uint32_t {
    const auto first = static_cast<unsigned char>(bytes[2 * i]),
               second = static_cast<unsigned char>(bytes[2 * i + 1]);
    return big_endian ? first << 8 | second : second << 8 | first;
  };
  std::string text;
  for (std::size_t i = 0; i < bytes.size() / 2; i++) {
    std::uint32_t c = unit(i);
    if (c >> 10 == 0xd800 >> 10 && 2 * i + 2 < bytes.size() && unit(i + 1) >> 10 == 0xdc00 >> 10)
      c = 0x10000 + ((c & 0x3ff) << 10 | (unit(++i) & 0x3ff));
    append_utf8(text, c);
  }
  return text;
}

std::string to_utf8(std::string text, const std::string& source) {
  if (text.starts_with("\xff\xfe") || text.starts_with("\xfe\xff"))
    text = from_utf16(std::string_view(text).substr(2), text[0] == '\xfe', source);
  else if (text.starts_with("\xef\xbb\xbf"))
    text.erase(0, 3);
  try {
    nlohmann::json(text).dump();  // refuses what is not UTF-8
  } catch (const nlohmann::json::type_error&) {
    core::fail(Status::bad_file, "{}: labels: neither UTF-8 nor UTF-16 with a byte-order mark", source);
  }
  return text;
}

std::vector<std::string> parse_json(const std::string& text, const std::string& source) {
  nlohmann::json json;
  try {
    json = nlohmann::json::parse(text);
  } catch (const nlohmann::json::parse_error& error) {
    core::fail(Status::bad_file, "{}: labels: begin like JSON, with {}, and are none: wrong at byte {}",
               source, text[text.find_first_not_of(blanks)], error.byte);
  }
  std::vector<std::string> labels;
  for (std::size_t i = 0; i < json.size(); i++) {
    const auto at =
        json.is_array() ? json.begin() + static_cast<std::ptrdiff_t>(i) : json.find(std::to_string(i));
    if (at == json.end() || !at->is_string())
      core::fail(Status::bad_file, "{}: labels: the JSON {} of {} has no name (a string) for index {}",
                 source, json.is_array() ? "array" : "object", json.size(), i);
    labels.push_back(at->get<std::string>());
  }
  return labels;
}

std::vector<std::string> parse_lines(const std::string& text) {
  std::vector<std::string> labels;
  std::istringstream lines(text);
  for (std::string line; std::getline(lines, line);) {
    if (line.ends_with('\r')) line.pop_back();
    labels.push_back(line);
  }
  while (!labels.empty() && labels.back().empty()) labels.pop_back();
  return labels;
}

}  // namespace

std::vector<std::string> parse_labels(std::string text, const std::string& source) {
  text = to_utf8(std::move(text), source);
  const std::size_t first = text.find_first_not_of(blanks);
  const bool json = first != std::string::npos && (text[first] == '[' || text[first] == '{');
  std::vector<std::string> labels = json ? parse_json(text, source) : parse_lines(text);
  for (std::string& label : labels) {
    std::replace_if(
        label.begin(), label.end(), [](unsigned char c) { return c < 0x20 || c == 0x7f; }, ' ');
  }
  return labels;
}

std::vector<std::string> read_labels(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  if (!file) core::fail(Status::not_found, "{}: labels: {}", path, std::strerror(errno));
  std::string text(max_bytes + 1, '\0');
  file.read(text.data(), static_cast<std::streamsize>(text.size()));
  if (file.bad()) core::fail(Status::bad_file, "{}: labels: cannot be read", path);
  text.resize(static_cast<std::size_t>(file.gcount()));
  if (text.size() > max_bytes)
    core::fail(Status::bad_file, "{}: labels: more than {} bytes", path, max_bytes);
  return parse_labels(std::move(text), path);
}

}  // namespace replk::model
