// JSON objects written as text. The JSON library's tree asks for memory even where it is destroyed, and does
// not survive the lack of it; only scalars go through it here.
#pragma once
#include <nlohmann/json.hpp>
#include <string>

namespace replk::tuner {

/// Between quotes, everything but ASCII escaped; bytes that are not UTF-8 are replaced.
inline std::string quoted(const std::string& text) {
  return nlohmann::json(text).dump(-1, ' ', true, nlohmann::json::error_handler_t::replace);
}

class JsonObject {
 public:
  /// value: JSON already.
  void add(const std::string& name, const std::string& value) {
    if (text_.size() > 1) text_ += ',';
    text_ += quoted(name) + ':' + value;
  }
  std::string text() const { return text_ + '}'; }

 private:
  std::string text_ = "{";
};

}  // namespace replk::tuner
