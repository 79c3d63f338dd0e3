#include "dense/onednn/loaded.hpp"

#include <dlfcn.h>

#include <string>

#include "core/error.hpp"
#include "core/log.hpp"
#include "jit/x64/code.hpp"

namespace replk::dense {
namespace {

struct Loaded {
  void* handle = nullptr;
  std::string fault;
};

/// Beside this library first (its RUNPATH), then where the system looks. Its symbols stay its own: another
/// copy may live in the process (PyTorch's).
Loaded open() {
  if (void* handle = dlopen(REPLK_ONEDNN_SONAME, RTLD_NOW | RTLD_LOCAL)) return {handle, {}};
  const char* error = dlerror();
  return {nullptr, error ? error : "unknown error"};
}

const Loaded& loaded() {
  static const auto* const once = new Loaded(open());
  return *once;
}

}  // namespace

bool onednn_available() {
  static const bool available = [] {
    if (!jit::code_allowed()) return false;  // of which that says enough
    if (loaded().handle) return true;
    core::log(core::LogLevel::warning, "oneDNN cannot be opened, so dense layers use own products: {}",
              loaded().fault);
    return false;
  }();
  return available;
}

void* onednn_symbol(const char* name) {
  if (!loaded().handle) core::fail(core::Status::unsupported, "oneDNN cannot be opened: {}", loaded().fault);
  if (void* symbol = dlsym(loaded().handle, name)) return symbol;
  core::fail(core::Status::unsupported, "oneDNN ({}) has no function {}", REPLK_ONEDNN_SONAME, name);
}

}  // namespace replk::dense
