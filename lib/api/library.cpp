// The library as a whole: version, errors, logging, threads, the machine.
#include <cstddef>
#include <cstdio>
#include <forward_list>
#include <mutex>

#include "api/guard.hpp"
#include "api/pool.hpp"
#include "core/cpu.hpp"
#include "core/features.hpp"
#include "core/log.hpp"
#include "core/threads.hpp"
#include "jit/x64/code.hpp"
#include "tuner/tuner.hpp"

namespace replk::api {
namespace {

thread_local char last_error[1024] = "";

struct LogHook {
  replk_log_callback callback;
  void* user;
};

}  // namespace

void set_last_error(const char* message) noexcept {
  std::snprintf(last_error, sizeof(last_error), "%s", message);
}

}  // namespace replk::api

using namespace replk;
using api::guarded;

static_assert(static_cast<int>(core::Status::ok) == REPLK_OK);
static_assert(static_cast<int>(core::Status::invalid_argument) == REPLK_INVALID_ARGUMENT);
static_assert(static_cast<int>(core::Status::bad_file) == REPLK_BAD_FILE);
static_assert(static_cast<int>(core::Status::not_found) == REPLK_NOT_FOUND);
static_assert(static_cast<int>(core::Status::unsupported) == REPLK_UNSUPPORTED);
static_assert(static_cast<int>(core::Status::out_of_memory) == REPLK_OUT_OF_MEMORY);
static_assert(static_cast<int>(core::Status::cancelled) == REPLK_CANCELLED);
static_assert(static_cast<int>(core::Status::internal) == REPLK_INTERNAL);
static_assert(static_cast<int>(Isa::avx512) == REPLK_ISA_AVX512 &&
              static_cast<int>(Isa::avx2) == REPLK_ISA_AVX2);
static_assert(static_cast<int>(core::LogLevel::warning) == REPLK_LOG_WARNING);
static_assert(static_cast<int>(core::LogLevel::debug) == REPLK_LOG_DEBUG);

static_assert(static_cast<int>(tuner::Mode::off) == REPLK_TUNING_OFF &&
              static_cast<int>(tuner::Mode::cached) == REPLK_TUNING_CACHED &&
              static_cast<int>(tuner::Mode::now) == REPLK_TUNING_NOW);

const char* replk_version() {
  return REPLK_VERSION;
}

const char* replk_status_string(replk_status status) {
  switch (status) {
    case REPLK_OK:
      return "ok";
    case REPLK_INVALID_ARGUMENT:
      return "invalid argument";
    case REPLK_BAD_FILE:
      return "bad file";
    case REPLK_NOT_FOUND:
      return "not found";
    case REPLK_UNSUPPORTED:
      return "unsupported";
    case REPLK_OUT_OF_MEMORY:
      return "out of memory";
    case REPLK_CANCELLED:
      return "cancelled";
    case REPLK_INTERNAL:
      return "internal error";
  }
  return "unknown status";
}

const char* replk_last_error() {
  return api::last_error;
}

replk_status replk_set_log_callback(replk_log_callback callback, void* user) {
  return guarded([&] {
    if (!callback) return core::set_log_callback(nullptr, nullptr);
    // Hooks are kept for good: another thread may be inside an old one.
    static std::mutex mutex;
    static auto* hooks = new std::forward_list<api::LogHook>;
    std::lock_guard lock(mutex);
    hooks->push_front({callback, user});
    core::set_log_callback(
        [](core::LogLevel level, const char* message, void* hook) {
          const auto* h = static_cast<const api::LogHook*>(hook);
          h->callback(static_cast<replk_log_level>(level), message, h->user);
        },
        &hooks->front());
  });
}

int replk_default_threads() {
  int threads = 1;
  guarded([&] { threads = core::default_threads(); });
  return threads;
}

replk_status replk_set_thread_pool(replk_pool_run run, void* user) {
  return guarded([&] { core::set_thread_pool(api::pool_run(run, user)); });
}

replk_status replk_set_tuning(const replk_tuning* given) {
  return guarded([&] {
    const replk_tuning t = api::read(given, replk_tuning_default(), sizeof(replk_tuning), "tuning");
    const int mode = t.mode;
    if (mode < REPLK_TUNING_OFF || mode > REPLK_TUNING_NOW)
      core::fail(core::Status::invalid_argument, "tuning.mode is {}; allowed: {} to {}", mode,
                 int{REPLK_TUNING_OFF}, int{REPLK_TUNING_NOW});
    if (!(t.budget_seconds >= 0 && t.budget_seconds <= 86400))
      core::fail(core::Status::invalid_argument, "tuning.budget_seconds is {}; allowed: 0 to 86400",
                 t.budget_seconds);
    tuner::change_settings([&](tuner::Settings& settings) {
      settings.mode = static_cast<tuner::Mode>(mode);
      settings.budget_seconds = t.budget_seconds;
    });
  });
}

replk_status replk_get_tuning(replk_tuning* tuning) {
  return guarded([&] {
    const tuner::Settings settings = tuner::settings();
    replk_tuning filled = replk_tuning_default();
    filled.mode = static_cast<replk_tuning_mode>(settings.mode);
    filled.budget_seconds = settings.budget_seconds;
    api::write(filled, tuning, sizeof(filled), "tuning");
  });
}

replk_status replk_get_cpu_info(replk_cpu_info* info) {
  return guarded([&] {
    const core::Cpu& cpu = core::cpu();
    replk_cpu_info filled{};
    std::snprintf(filled.vendor, sizeof(filled.vendor), "%s", cpu.vendor.c_str());
    std::snprintf(filled.brand, sizeof(filled.brand), "%s", cpu.brand.c_str());
    filled.family = cpu.family;
    filled.model = cpu.model;
    filled.stepping = cpu.stepping;
    filled.cores = cpu.cores;
    filled.hardware = static_cast<replk_isa>(cpu.hardware);
    filled.isa = static_cast<replk_isa>(cpu.isa);
    filled.code_generation = jit::code_allowed();
    filled.l1d_bytes = cpu.l1d_bytes;
    filled.l2_bytes = cpu.l2_bytes;
    filled.l3_bytes = cpu.l3_bytes;
    filled.features = core::features().bits();
    api::write(filled, info, offsetof(replk_cpu_info, features), "info");
  });
}
