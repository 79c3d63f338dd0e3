// A caller's pool of threads, as the library takes one.
#pragma once
#include <functional>

#include "core/threads.hpp"
#include "replk/replk.h"

namespace replk::api {

/// Nothing for NULL. Allocates nothing.
inline core::PoolRun pool_run(replk_pool_run run, void* user) {
  if (!run) return {};
  return [run, user](int count, const std::function<void(int)>& body) {
    const auto task = [](int index, void* context) {
      (*static_cast<const std::function<void(int)>*>(context))(index);
    };
    run(count, task, const_cast<void*>(static_cast<const void*>(&body)), user);
  };
}

/// While it lives, this thread's work is run by a caller's pool, where one is given.
class Pool {
 public:
  Pool(replk_pool_run run, void* user) : run_(pool_run(run, user)), scope_(run_ ? &run_ : nullptr) {}

 private:
  core::PoolRun run_;
  core::PoolScope scope_;
};

}  // namespace replk::api
