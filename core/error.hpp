// Errors inside the library are exceptions; the C API turns them into status codes: lib/api/guard.hpp.
#pragma once
#include <fmt/format.h>

#include <stdexcept>
#include <string>
#include <utility>

namespace replk::core {

enum class Status {
  ok,
  invalid_argument,  // a value the caller gave: the message names field, value and allowed range
  bad_file,          // a file's content: the message names file, field, value and range
  not_found,         // a file or a name that does not exist
  unsupported,       // valid, but not on this machine or not in this build
  out_of_memory,
  cancelled,
  internal,
};

class Error : public std::runtime_error {
 public:
  Error(Status status, const std::string& message) : std::runtime_error(message), status_(status) {}
  Status status() const { return status_; }

 private:
  Status status_;
};

template <class... Args>
[[noreturn]] void fail(Status status, fmt::format_string<Args...> format, Args&&... args) {
  throw Error(status, fmt::format(format, std::forward<Args>(args)...));
}

}  // namespace replk::core
