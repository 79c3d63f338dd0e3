// Runs candidates of a problem on data of its own, for the tuner.
#pragma once
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "core/memory.hpp"
#include "depthwise/choose/choice.hpp"
#include "depthwise/problem/reference.hpp"

namespace replk::depthwise {

/// Fills a buffer with so many values of a type, all of one mantissa.
void fill_even(core::Buffer<std::byte>& buffer, DataType type, std::int64_t elements, std::uint32_t seed);

/// Makes nothing before the first candidate is verified. Weights and activations are seeded and of ordinary
/// size, since zeros and denormals take other times than real data do, and all products of a channel have one
/// mantissa, so that rounding errors show that random numbers hide. One thread at a time.
class Trial {
 public:
  explicit Trial(const Request& request);
  ~Trial();
  Trial(const Trial&) = delete;
  Trial& operator=(const Trial&) = delete;

  /// Prepares a candidate (if need be) and compares sampled outputs with the double reference, within the
  /// bound of its class.
  bool verify(const std::string& text);
  /// The largest error of these outputs, of what class fast allows; infinite for a tiling that cannot compute
  /// the problem.
  double error_of_bound(const std::string& text);
  void run(const std::string& text);
  /// Leaves the caches as a layer of a network finds them: what ran before has pushed code, workspace and
  /// output out of the L2, has written the input, and prefetched the packed weights with its last steps.
  void cool(const std::string& text);
  void release(const std::string& text);
  /// Puts data, workspace and every candidate that is prepared into other memory.
  void move();
  /// What was prepared for this tiling.
  const Executor& executor(const std::string& text) const;

 private:
  struct Prepared {
    Choice choice;
    std::unique_ptr<Executor> executor;
  };
  void make_data();
  Tensors tensors();
  void prepare(Prepared& prepared);

  Request request_;
  const Problem& problem_ = request_.problem;
  std::vector<std::vector<float>> weights_;
  std::vector<float> bias_, scale_;
  core::Buffer<std::byte> src_, dst_, residual_, workspace_, others_;
  std::vector<Sample> samples_;
  std::vector<double> expected_;
  std::map<std::string, Prepared> prepared_;
};

}  // namespace replk::depthwise
