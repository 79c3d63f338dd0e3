// The one way the library talks: a callback the user installs. Without one, it is silent.
#pragma once
#include <fmt/format.h>

#include <string>
#include <utility>

namespace replk::core {

enum class LogLevel { warning, info, debug };
using LogCallback = void (*)(LogLevel level, const char* message, void* user);

/// Replaces the callback (nullptr: silent). Thread-safe. REPLK_VERBOSE installs one that writes to standard
/// error when the library is first used.
void set_log_callback(LogCallback callback, void* user);
bool log_enabled(LogLevel level);
void log_text(LogLevel level, const std::string& message);
/// Logs a warning once per process and key, so that a fault met on every call is logged once.
void warn_once(const std::string& key, const std::string& message);

template <class... Args>
void log(LogLevel level, fmt::format_string<Args...> format, Args&&... args) {
  if (log_enabled(level)) log_text(level, fmt::format(format, std::forward<Args>(args)...));
}

}  // namespace replk::core
