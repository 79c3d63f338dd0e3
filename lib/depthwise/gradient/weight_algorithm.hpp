// What an algorithm for the weight gradient must answer. A new one is a new file and one line in
// weight_algorithms() (weight_registry.cpp).
#pragma once
#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string_view>
#include <vector>

#include "core/cpu.hpp"
#include "depthwise/algorithm.hpp"
#include "depthwise/gradient/weight_gradient.hpp"
#include "depthwise/problem/kernel.hpp"

namespace replk::depthwise {

/// How a run is done.
struct WeightRun {
  std::int64_t batch = 1;     // images, at least 1
  bool accumulate = false;    // add to what is there
  void* workspace = nullptr;  // 64-byte aligned, of at least workspace_bytes(threads)
  int threads = 1;            // to use, at least 1
};

/// One prepared algorithm. run() changes nothing in it, so that many threads may call it, each with a
/// workspace of its own.
class WeightExecutor {
 public:
  virtual ~WeightExecutor() = default;
  /// Bytes of workspace for a run on this many threads, whatever its batch.
  virtual std::size_t workspace_bytes(int threads) const = 0;
  /// Allocates nothing. The bits of the results do not depend on the threads.
  virtual void run(const WeightGradientTensors& tensors, const WeightRun& run) const = 0;
  /// Of a run of the problem's own batch.
  virtual std::vector<Phase> phases(int threads) const = 0;
  /// Bytes of generated code and tables that this holds.
  virtual std::size_t prepared_bytes() const = 0;
};

class WeightAlgorithm {
 public:
  virtual ~WeightAlgorithm() = default;
  virtual std::string_view name() const = 0;
  /// Whether the algorithm can do class exact (bits defined by portable).
  virtual bool exact() const = 0;
  /// Lower goes first among equally fast ones.
  virtual int complexity() const = 0;
  /// As Algorithm::constants().
  virtual std::span<const std::int32_t> constants() const = 0;
  /// Whether it can compute this: for cache records, so it trusts nothing and never throws.
  virtual bool legal(const Problem&, const Kernel& geometry, const Tiling&, Isa) const = 0;
  /// The tilings worth trying, best predicted first, at most `most`; empty where the algorithm cannot do the
  /// problem.
  std::vector<Candidate> candidates(const Problem&, const Kernel& geometry, Isa, int threads,
                                    std::size_t most = 24) const;
  /// Gets code and memory: the slow part. Precondition: legal().
  virtual std::unique_ptr<WeightExecutor> prepare(const Problem&, const Kernel& geometry, const Tiling&,
                                                  Isa) const = 0;

 protected:
  /// All that candidates() picks from, in any order that is always the same.
  virtual std::vector<Candidate> every_candidate(const Problem&, const Kernel& geometry, Isa,
                                                 int threads) const = 0;
};

/// All algorithms, simplest first.
const std::vector<const WeightAlgorithm*>& weight_algorithms();
const WeightAlgorithm* find_weight_algorithm(std::string_view name);  // null if there is none

}  // namespace replk::depthwise
