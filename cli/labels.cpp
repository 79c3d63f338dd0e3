#include "cli/labels.hpp"

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <fstream>
#include <iterator>
#include <nlohmann/json.hpp>
#include <sstream>

#include "core/error.hpp"

namespace replk::cli {
namespace {

using core::Status;
constexpr std::size_t max_bytes = 16 << 20;

std::vector<std::string> parse_json(const std::string& text, const std::string& source) {
  const auto array = nlohmann::json::parse(text, nullptr, /*allow_exceptions=*/false);
  const bool valid = array.is_array() && std::all_of(array.begin(), array.end(),
                                                     [](const auto& label) { return label.is_string(); });
  if (!valid)
    core::fail(Status::bad_file, "{}: labels: begins with [ but is not a JSON array of strings", source);
  return array.get<std::vector<std::string>>();
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

std::vector<std::string> parse_labels(const std::string& text, const std::string& source, int classes) {
  std::vector<std::string> labels = text.starts_with('[') ? parse_json(text, source) : parse_lines(text);
  if (labels.size() != static_cast<std::size_t>(classes)) {
    core::fail(Status::bad_file, "{}: labels: {} of them; the network has {} classes", source, labels.size(),
               classes);
  }
  for (std::string& label : labels) {
    std::replace_if(
        label.begin(), label.end(), [](unsigned char c) { return c < 0x20 || c == 0x7f; }, ' ');
  }
  return labels;
}

std::vector<std::string> read_labels(const std::string& path, int classes) {
  std::ifstream file(path, std::ios::binary);
  if (!file) core::fail(Status::not_found, "{}: labels: {}", path, std::strerror(errno));
  std::string text(max_bytes + 1, '\0');
  file.read(text.data(), static_cast<std::streamsize>(text.size()));
  if (file.bad()) core::fail(Status::bad_file, "{}: labels: cannot be read", path);
  text.resize(static_cast<std::size_t>(file.gcount()));
  if (text.size() > max_bytes)
    core::fail(Status::bad_file, "{}: labels: more than {} bytes", path, max_bytes);
  return parse_labels(text, path, classes);
}

}  // namespace replk::cli
