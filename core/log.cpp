#include "core/log.hpp"

#include <cstdio>
#include <cstdlib>
#include <mutex>
#include <set>

namespace replk::core {
namespace {

void to_stderr(LogLevel level, const char* message, void*) {
  static const char* const names[] = {"warning", "info", "debug"};
  std::fprintf(stderr, "replk %s: %s\n", names[static_cast<int>(level)], message);
}

struct Sink {
  std::mutex mutex;
  LogCallback callback = nullptr;
  void* user = nullptr;
  LogLevel most = LogLevel::debug;
  std::set<std::string> warned;
  Sink() {
    if (const char* verbose = std::getenv("REPLK_VERBOSE"); verbose && *verbose && *verbose != '0') {
      callback = to_stderr;
      most = *verbose == '2' ? LogLevel::debug : LogLevel::info;
    }
  }
};

Sink& sink() {
  static Sink* instance = new Sink;  // never destroyed: other static objects may log while the process ends
  return *instance;
}

}  // namespace

void set_log_callback(LogCallback callback, void* user) {
  Sink& s = sink();
  std::lock_guard lock(s.mutex);
  s.callback = callback;
  s.user = user;
  s.most = LogLevel::debug;
}

bool log_enabled(LogLevel level) {
  Sink& s = sink();
  std::lock_guard lock(s.mutex);
  return s.callback && level <= s.most;
}

void log_text(LogLevel level, const std::string& message) {
  Sink& s = sink();
  LogCallback callback;
  void* user;
  {
    std::lock_guard lock(s.mutex);
    if (!s.callback || level > s.most) return;
    callback = s.callback;
    user = s.user;
  }
  callback(level, message.c_str(), user);
}

void warn_once(const std::string& key, const std::string& message) {
  Sink& s = sink();
  {
    std::lock_guard lock(s.mutex);
    if (!s.warned.insert(key).second) return;
  }
  log_text(LogLevel::warning, message);
}

}  // namespace replk::core
