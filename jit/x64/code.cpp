#include "jit/x64/code.hpp"

#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <condition_variable>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <list>
#include <mutex>
#include <unordered_map>

#include "core/error.hpp"
#include "core/log.hpp"
#include "core/memory.hpp"

namespace replk::jit {

using core::Status;

Code::Code(std::span<const std::uint8_t> bytes) : size_(bytes.size()) {
  mapped_ = core::round_up(std::max<std::size_t>(size_, 1), static_cast<std::size_t>(sysconf(_SC_PAGESIZE)));
  void* memory = mmap(nullptr, mapped_, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (memory == MAP_FAILED) core::fail(Status::out_of_memory, "no memory for {} bytes of code", mapped_);
  std::memcpy(memory, bytes.data(), size_);
  if (mprotect(memory, mapped_, PROT_READ | PROT_EXEC) != 0) {
    const int reason = errno;
    munmap(memory, mapped_);
    if (reason == ENOMEM) core::fail(Status::out_of_memory, "no memory for {} bytes of code", mapped_);
    core::fail(Status::unsupported, "this system forbids executable memory: {}", std::strerror(reason));
  }
  memory_ = memory;
}

Code::~Code() {
  munmap(const_cast<void*>(memory_), mapped_);
}

bool code_allowed() {
  static const bool allowed = [] {
    try {
      const std::uint8_t ret = 0xc3;
      Code{{&ret, 1}};
      return true;
    } catch (const core::Error& e) {
      if (e.status() != Status::unsupported) throw;  // no answer: asked again next time
      core::warn_once("jit", std::string(e.what()) + "; portable code runs instead");
      return false;
    }
  }();
  return allowed;
}

namespace {

class Cache {
 public:
  std::shared_ptr<const Code> get(const std::string& spec,
                                  const std::function<std::vector<std::uint8_t>()>& generate) {
    std::unique_lock lock(mutex_);
    while (true) {
      auto found = entries_.find(spec);
      if (found == entries_.end()) break;
      if (found->second.code) {
        hits_++;
        order_.splice(order_.begin(), order_, found->second.place);
        return found->second.code;
      }
      done_.wait(
          lock);  // another thread is generating it; if that fails, the entry goes and this thread tries
    }
    misses_++;
    std::list<std::string> place{spec};  // joins the order only when nothing can fail any more
    entries_.try_emplace(spec, Entry{nullptr, place.begin()});
    order_.splice(order_.begin(), place);
    lock.unlock();
    std::shared_ptr<const Code> code;
    try {
      code = std::make_shared<const Code>(generate());
      dump(spec, *code);
    } catch (...) {
      lock.lock();
      order_.erase(entries_.at(spec).place);
      entries_.erase(spec);
      done_.notify_all();
      throw;
    }
    lock.lock();
    entries_.at(spec).code = code;
    bytes_ += code->mapped_bytes();
    evict();
    done_.notify_all();
    return code;
  }

  void set_capacity(std::size_t bytes) {
    std::lock_guard lock(mutex_);
    capacity_ = bytes;
    evict();
  }

  CodeCacheStatistics statistics() {
    std::lock_guard lock(mutex_);
    return {entries_.size(), bytes_, hits_, misses_};
  }

 private:
  struct Entry {
    std::shared_ptr<const Code> code;
    std::list<std::string>::iterator place;
  };

  void evict() {
    for (auto last = order_.end(); bytes_ > capacity_ && last != order_.begin();) {
      --last;
      auto entry = entries_.find(*last);
      if (!entry->second.code || entry->second.code.use_count() > 1) continue;
      bytes_ -= entry->second.code->mapped_bytes();
      entries_.erase(entry);
      last = order_.erase(last);
    }
  }

  static void dump(const std::string& spec, const Code& code) {
    const char* directory = std::getenv("REPLK_DUMP_DIR");
    if (!directory || !*directory) return;
    const std::string base = fmt::format("{}/{:016x}", directory, std::hash<std::string>{}(spec));
    const auto write = [](const std::string& path, const void* data, std::size_t size) {
      std::FILE* file = std::fopen(path.c_str(), "wb");
      const bool written = file && std::fwrite(data, 1, size, file) == size;
      if (file) std::fclose(file);
      if (!written) core::warn_once("dump", "REPLK_DUMP_DIR: cannot write " + path);
    };
    write(base + ".bin", code.bytes().data(), code.bytes().size());
    write(base + ".txt", spec.data(), spec.size());
  }

  std::mutex mutex_;
  std::condition_variable done_;
  std::unordered_map<std::string, Entry> entries_;
  std::list<std::string> order_;  // most recently used first
  std::size_t bytes_ = 0, capacity_ = 64 << 20, hits_ = 0, misses_ = 0;
};

Cache& cache() {
  static Cache* instance = new Cache;  // never destroyed: plans with static lifetime may outlive it otherwise
  return *instance;
}

}  // namespace

std::shared_ptr<const Code> get_code(const std::string& spec,
                                     const std::function<std::vector<std::uint8_t>()>& generate) {
  return cache().get(spec, generate);
}
void set_code_cache_capacity(std::size_t bytes) {
  cache().set_capacity(bytes);
}
CodeCacheStatistics code_cache_statistics() {
  return cache().statistics();
}

}  // namespace replk::jit
