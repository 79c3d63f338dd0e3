#include "cli/predictions.hpp"

#include <fmt/format.h>

#include <cerrno>
#include <charconv>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <string_view>
#include <system_error>

#include "core/error.hpp"

namespace replk::cli {
namespace {

using core::Status;

constexpr std::string_view columns = "index,image,label,predicted,rank";

// A field with a comma, a quote or a line end is quoted, its quotes doubled (RFC 4180); line ends become
// blanks, so that a line stays one.
std::string csv_field(std::string text) {
  for (char& c : text)
    if (c == '\n' || c == '\r') c = ' ';
  if (text.find_first_of(",\"") == std::string::npos) return text;
  std::string quoted = "\"";
  for (char c : text) quoted += c == '"' ? "\"\"" : std::string(1, c);
  return quoted + '"';
}

// `index,image,label` of an image: what a line begins with.
std::string line_head(const Dataset& dataset, std::int64_t index) {
  return fmt::format("{},{},{}", index, csv_field(dataset.name(index)), dataset.label(index));
}

template <class Number>
bool take_number(std::string_view& text, Number& number) {
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number);
  text.remove_prefix(static_cast<std::size_t>(end - text.data()));
  return error == std::errc();
}

bool take(std::string_view& text, std::string_view prefix) {
  if (!text.starts_with(prefix)) return false;
  text.remove_prefix(prefix.size());
  return true;
}

}  // namespace

PredictionsFile::PredictionsFile(const std::string& path, const std::string& made_by, const Dataset& dataset)
    : path_(path), dataset_(dataset) {
  std::string text;
  if (std::ifstream earlier(path, std::ios::binary); earlier)
    text.assign(std::istreambuf_iterator<char>(earlier), {});
  const std::size_t whole = text.rfind('\n') + 1;  // npos + 1 is 0
  if (whole < text.size()) {
    std::error_code error;
    std::filesystem::resize_file(path, whole, error);
    if (error) core::fail(Status::bad_file, "{}: {}", path, error.message());
    text.resize(whole);
  }
  if (!text.empty()) read(text, made_by);
  file_.reset(std::fopen(path.c_str(), "ab"));
  if (!file_) core::fail(Status::not_found, "{}: {}", path, std::strerror(errno));
  if (text.empty()) {
    fmt::print(file_.get(), "# {}\n{}\n", made_by, columns);
    if (std::fflush(file_.get()) != 0) core::fail(Status::bad_file, "{}: {}", path, std::strerror(errno));
  }
}

void PredictionsFile::read(const std::string& text, const std::string& made_by) {
  std::string_view rest = text;
  std::int64_t number = 0;
  while (!rest.empty()) {
    const std::string_view whole = rest.substr(0, rest.find('\n'));
    std::string_view line = whole;
    rest.remove_prefix(line.size() + 1);
    ++number;
    if (number == 1) {
      if (line != "# " + made_by) {
        core::fail(Status::bad_file, "{}: has predictions of another run: '{}'; this one is '# {}'", path_,
                   line.substr(0, 512), made_by);
      }
      continue;
    }
    if (number == 2 && line == columns) continue;
    std::int64_t index = 0;
    Prediction prediction;
    std::string_view start = line;
    const bool known = take_number(start, index) && index >= 0 && index < dataset_.size() &&
                       take(line, line_head(dataset_, index)) && take(line, ",") &&
                       take_number(line, prediction.predicted) && take(line, ",") &&
                       take_number(line, prediction.rank) && line.empty() && prediction.predicted >= 0 &&
                       prediction.rank >= 0;
    if (!known) {
      core::fail(Status::bad_file, "{}: line {} is not '{}' of an image of this set: '{}'", path_, number,
                 columns, whole.substr(0, 128));
    }
    done_[index] = prediction;
  }
}

void PredictionsFile::add(std::int64_t index, const Prediction& prediction) {
  const std::string line =
      fmt::format("{},{},{}\n", line_head(dataset_, index), prediction.predicted, prediction.rank);
  if (std::fwrite(line.data(), 1, line.size(), file_.get()) != line.size() || std::fflush(file_.get()) != 0)
    core::fail(Status::bad_file, "{}: {}", path_, std::strerror(errno));
}

}  // namespace replk::cli
