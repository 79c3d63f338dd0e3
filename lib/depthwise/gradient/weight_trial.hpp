// Runs candidates of a weight gradient on data of its own, for the tuner.
#pragma once
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "core/memory.hpp"
#include "depthwise/gradient/weight_algorithm.hpp"
#include "depthwise/gradient/weight_reference.hpp"

namespace replk::depthwise {

struct WeightChoice;

/// As Trial: makes nothing before the first candidate is verified; all products of a channel have one
/// mantissa, so that rounding errors show that random numbers hide. One thread at a time.
class WeightTrial {
 public:
  WeightTrial(const Problem& problem, Isa isa, int threads);
  ~WeightTrial();
  WeightTrial(const WeightTrial&) = delete;
  WeightTrial& operator=(const WeightTrial&) = delete;

  /// Prepares a candidate (if need be) and compares some channels with the double reference.
  bool verify(const std::string& text);
  /// The largest error over a channel's largest gradient; infinite for a tiling that cannot compute the
  /// problem.
  double error_of(const std::string& text);
  void run(const std::string& text);
  void release(const std::string& text);
  /// Puts data, workspace and every candidate that is prepared into other memory.
  void move();
  /// What was prepared for this tiling.
  const WeightExecutor& executor(const std::string& text) const;

 private:
  struct Prepared {
    std::unique_ptr<WeightExecutor> executor;
    int threads = 1;
  };
  void make_data();
  std::vector<float*> dweights();

  Problem problem_;
  Isa isa_;
  int threads_;
  Kernel kernel_;
  core::Buffer<std::byte> src_, dy_, workspace_;
  std::vector<core::Buffer<float>> dweights_;
  core::Buffer<float> dbias_;
  WeightReference expected_;
  std::map<std::string, Prepared> prepared_;
};

}  // namespace replk::depthwise
