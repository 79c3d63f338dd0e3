// What an algorithm must answer. A new one is a new file and one line in algorithms() (registry.cpp).
#pragma once
#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "core/prefetch.hpp"
#include "depthwise/choose/request.hpp"
#include "depthwise/cost/machine.hpp"
#include "depthwise/problem/weights.hpp"
#include "depthwise/tiling.hpp"

namespace replk::depthwise {

/// Pointers of one run, in the problem's layout and type, any alignment. residual may be null where the
/// problem has none; it may equal dst, neither may overlap src.
struct Tensors {
  const void* src = nullptr;
  void* dst = nullptr;
  const void* residual = nullptr;
};

/// How a run is done.
struct Run {
  std::int64_t batch = 1;     // images, at least 1
  void* workspace = nullptr;  // 64-byte aligned, of at least workspace_bytes(threads)
  int threads = 1;            // to use, at least 1
};

/// Real work of a prepared algorithm, for limits and reports: not the multiply-adds of the naive loop.
struct Work {
  double fma = 0, add = 0;                   // vector-lane operations over the whole run
  double bytes_read = 0, bytes_written = 0;  // to and from memory outside the L2 (tensors and packed weights)
};

/// Independent tasks of one pass of a run, for `replk explain`.
struct Phase {
  std::string name;
  std::int64_t tasks = 0;
};

/// A run as tasks that each take some channels of an image through all passes; two executors that agree in
/// both numbers cut the channels alike.
struct ChannelTasks {
  std::int64_t count = 0;  // 0: the run is cut otherwise
  int channels = 0;        // of each but the last
  bool operator==(const ChannelTasks&) const = default;
};

/// One prepared algorithm: code, and packed weights. run() changes nothing, so that many threads may call it,
/// each with a workspace of its own.
class Executor {
 public:
  virtual ~Executor() = default;
  /// Packs weights, on at most `threads` threads; before the first run, and later instead of the old ones,
  /// while no run is under way. Cannot fail and allocates nothing.
  virtual void set_weights(const Weights& weights, int threads) = 0;
  /// Bytes of workspace for a run on this many threads, whatever its batch.
  virtual std::size_t workspace_bytes(int threads) const = 0;
  /// Allocates nothing. The bits of an image of dst depend neither on the threads nor on the batch.
  virtual void run(const Tensors& tensors, const Run& run) const = 0;
  virtual ChannelTasks channel_tasks(std::int64_t /*batch*/, int /*threads*/) const { return {}; }
  /// One of channel_tasks(), in a workspace of its own of workspace_bytes(1).
  virtual void run_task(const Tensors&, void* /*workspace*/, std::int64_t /*index*/) const {}
  /// Of a run of the problem's own batch.
  virtual std::vector<Phase> phases(int threads) const = 0;
  virtual Work work() const = 0;
  /// Bytes of packed weights and generated code that this plan holds.
  virtual std::size_t prepared_bytes() const = 0;
  /// Whether unpack() can give back the weights that set_weights() packed.
  virtual bool unpacks() const { return false; }
  /// A row of the merged kernel of a channel, [kernel.width], with errors as a run's own. Precondition:
  /// unpacks(), and that packing did not overflow.
  virtual void unpack(int /*channel*/, int /*row*/, double* /*to*/) const {}
  /// Packed weights in the order in which a run reads them, for what runs before and leaves the memory idle.
  virtual core::Prefetch prefetch() const { return {}; }
};

/// A tiling of a request, read once and found legal, with its geometry.
class Variant {
 public:
  virtual ~Variant() = default;
  virtual Tiling tiling() const = 0;
  std::string text() const { return tiling().to_string(); }
  /// Seconds, on one warm core times 1/threads of the parallel part.
  virtual double predict(const Machine& machine) const = 0;
  /// Gets code and memory: the slow part. It has no weights yet.
  virtual std::unique_ptr<Executor> prepare() const = 0;
  /// The same, with the weights that the executor of a layer has and keeps: this variant's kernel is the
  /// layer's, turned by 180 degrees (kernel.hpp). Null where the two would not be packed alike.
  virtual std::unique_ptr<Executor> prepare_turned(const Executor& /*layer*/) const { return nullptr; }
};

struct Candidate {
  Tiling tiling;
  double predicted_seconds = 0;  // Variant::predict()
};

class Algorithm {
 public:
  virtual ~Algorithm() = default;
  virtual std::string_view name() const = 0;
  /// Whether the algorithm can do class exact (bits defined by portable). In class fast it keeps that class's
  /// bound like any other.
  virtual bool exact() const = 0;
  /// Lower goes first among equally fast ones.
  virtual int complexity() const = 0;
  /// What its executors decide by that is neither in a tiling nor in the code of their kernels: how many
  /// bytes a window has, how many rows a share. Part of every key: with other values, what was measured
  /// before is a miss. All of them, by jit::values_of of the one struct that the executors read.
  virtual std::span<const std::int32_t> constants() const { return {}; }
  /// The one it computes.
  virtual Pass pass() const { return Pass::forward; }
  /// A tiling of this algorithm; null where it cannot compute what is asked. For cache records, so it trusts
  /// nothing: unknown, missing or out-of-range fields give null.
  std::unique_ptr<Variant> read(const Request& request, const Tiling& tiling) const;
  /// The tilings worth trying, best predicted first, at most `most`; empty where the algorithm cannot
  /// compute what is asked.
  std::vector<Candidate> candidates(const Request& request, std::size_t most = 24) const;

 protected:
  /// As read(), of a request whose pass and class are this algorithm's, and of a tiling with its name.
  virtual std::unique_ptr<Variant> read_fields(const Request& request, const Tiling& tiling) const = 0;
  /// All that candidates() picks from, in any order that is always the same.
  virtual std::vector<Candidate> every_candidate(const Request& request) const = 0;
  /// Leaves at most `most` of the candidates, best predicted first; an algorithm may keep a few more, unlike
  /// these, about which its prediction cannot be trusted.
  virtual void keep_best(std::vector<Candidate>& sorted, std::size_t most) const;

 private:
  bool computes(const Request& request) const;
};

/// All algorithms, simplest first.
const std::vector<const Algorithm*>& algorithms();
const Algorithm* find_algorithm(std::string_view name);  // null if there is none

}  // namespace replk::depthwise
