// Plans of layers by what they were made for: a call with the same weights finds its plan.
#pragma once
#include <replk/replk.h>

#include <array>
#include <cstddef>
#include <cstdint>
#include <list>
#include <memory>
#include <mutex>
#include <vector>

namespace replk_torch {

/// What a plan depends on besides the weights' values.
struct Key {
  std::array<std::int64_t, 20> numbers{};                         // the problem's, and threads
  std::array<std::int64_t, 4> input_strides{}, output_strides{};  // image, row, pixel, channel; 0: dense
  bool operator==(const Key&) const = default;
};

/// Where weights and bias lie and what they hold. A version counts what PyTorch notices; writes through .data
/// it does not notice, so values are compared as well: all of them up to 32 KiB, beyond that 64 samples,
/// which is a net and no proof.
class Weights {
 public:
  Weights(const void* weight, std::size_t bytes, const void* bias, std::size_t bias_bytes,
          std::int64_t version);
  bool operator==(const Weights& other) const = default;
  /// Whether these are values of the same parameter, perhaps changed.
  bool same_place(const Weights& other) const { return weight_ == other.weight_ && bias_ == other.bias_; }

 private:
  void take(const void* data, std::size_t bytes);

  const void *weight_, *bias_;
  std::int64_t version_;
  std::vector<std::uint32_t> values_;
};

/// The plans used last, behind a lock. Thread-safe.
template <class Handle>
class Plans {
 public:
  using Plan = std::shared_ptr<const Handle>;
  explicit Plans(void (*destroy)(Handle*)) : destroy_(destroy) {}

  /// The plan of a key and weights. `make` is called without the lock where there is none, `change` where a
  /// plan of the key that nobody else uses has other weights.
  template <class Make, class Change>
  Plan get(const Key& key, const Weights& weights, Make make, Change change) {
    std::shared_ptr<Handle> stale;
    {
      const std::lock_guard lock(mutex_);
      for (auto at = entries_.begin(); at != entries_.end(); ++at)
        if (at->key == key && at->weights == weights) {
          entries_.splice(entries_.begin(), entries_, at);
          return entries_.front().plan;
        }
      for (auto at = entries_.begin(); at != entries_.end(); ++at)
        if (at->key == key && at->weights.same_place(weights) && at->plan.use_count() == 1) {
          stale = std::move(at->plan);
          entries_.erase(at);
          break;
        }
    }
    if (stale)
      change(stale.get());
    else
      stale = std::shared_ptr<Handle>(make(), destroy_);
    const std::lock_guard lock(mutex_);
    entries_.push_front({key, weights, stale});
    while (entries_.size() > capacity) entries_.pop_back();
    return stale;
  }
  void clear() {
    const std::lock_guard lock(mutex_);
    entries_.clear();
  }

 private:
  static constexpr std::size_t capacity = 256;
  struct Entry {
    Key key;
    Weights weights;
    std::shared_ptr<Handle> plan;
  };
  void (*destroy_)(Handle*);
  std::mutex mutex_;
  std::list<Entry> entries_;  // the one used last first
};

}  // namespace replk_torch
