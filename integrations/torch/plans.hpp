// Plans of layers by what they were made for: a call with the same weights finds its plan.
#pragma once
#include <replk/replk.h>

#include <array>
#include <cstddef>
#include <cstdint>
#include <list>
#include <memory>
#include <mutex>
#include <utility>
#include <vector>

namespace replk_torch {

/// What a plan depends on besides the weights' values.
struct Key {
  std::array<std::int64_t, 17> layer{};                           // the problem's numbers, and threads
  std::array<std::int64_t, 3> results{};                          // output layout, activation, bias
  std::array<std::int64_t, 4> input_strides{}, output_strides{};  // image, row, pixel, channel; 0: dense
  bool operator==(const Key&) const = default;
  /// Whether a gradient of this key can be that of such a layer: where its tensors lie is no matter.
  bool is_gradient_of(const Key& other) const { return layer == other.layer; }
};

/// Where weights and bias lie now, and what PyTorch counts of their changes: those of weight in the upper
/// half, of both together in the lower.
struct Weights {
  const void* weight = nullptr;
  std::size_t bytes = 0;
  const void* bias = nullptr;
  std::size_t bias_bytes = 0;
  std::int64_t version = 0;
};

/// What weights and bias held when a plan was made from them. A version counts what PyTorch notices; writes
/// through .data it does not notice, so values are compared as well: all of them up to 32 KiB, beyond that 64
/// samples, which is a net and no proof.
class Snapshot {
 public:
  explicit Snapshot(const Weights& weights);
  /// Compared where they lie: a call copies nothing.
  bool same_as(const Weights& weights) const;
  /// The weights alone, whatever the bias is.
  bool same_weight(const Weights& weights) const;
  /// Whether these are values of the same parameter, perhaps changed.
  bool same_place(const Weights& weights) const {
    return weights_.weight == weights.weight && weights_.bias == weights.bias;
  }

 private:
  Weights weights_;
  std::vector<unsigned char> weight_, bias_;
};

/// The plans used last, behind a lock. Thread-safe.
template <class Handle>
class Plans {
 public:
  using Plan = std::shared_ptr<const Handle>;

  /// The plan of a key and weights. `make` is called without the lock where there is none, and gives a
  /// std::shared_ptr<Handle>; `change` where a plan of the key that nobody else uses has other weights.
  template <class Make, class Change>
  Plan get(const Key& key, const Weights& weights, Make make, Change change) {
    std::shared_ptr<Handle> stale;
    {
      const std::lock_guard lock(mutex_);
      for (auto at = entries_.begin(); at != entries_.end(); ++at)
        if (at->key == key && at->snapshot.same_as(weights)) {
          entries_.splice(entries_.begin(), entries_, at);
          return entries_.front().plan;
        }
      for (auto at = entries_.begin(); at != entries_.end(); ++at)
        if (at->key == key && at->snapshot.same_place(weights) && at->plan.use_count() == 1) {
          stale = std::move(at->plan);
          entries_.erase(at);
          break;
        }
    }
    if (stale)
      change(stale.get());
    else
      stale = make();
    Snapshot snapshot(weights);
    const std::lock_guard lock(mutex_);
    entries_.push_front({key, std::move(snapshot), stale});
    while (entries_.size() > capacity) entries_.pop_back();
    return stale;
  }
  /// The one used last whose key and snapshot `fits`, or null.
  template <class Fits>
  Plan find(Fits fits) {
    const std::lock_guard lock(mutex_);
    for (const Entry& entry : entries_)
      if (fits(entry.key, entry.snapshot)) return entry.plan;
    return nullptr;
  }
  void clear() {
    const std::lock_guard lock(mutex_);
    entries_.clear();
  }

 private:
  static constexpr std::size_t capacity = 256;
  struct Entry {
    Key key;
    Snapshot snapshot;
    std::shared_ptr<Handle> plan;
  };
  std::mutex mutex_;
  std::list<Entry> entries_;  // the one used last first
};

}  // namespace replk_torch
