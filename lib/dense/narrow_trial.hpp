// Runs candidates of a linear layer with narrow operands on data of its own, for the tuner. Inside the box
// only.
#pragma once
#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "core/memory.hpp"
#include "dense/dense.hpp"

namespace replk::dense {

/// Makes nothing before the first candidate is verified. Weights and activations are seeded numbers of
/// ordinary size. One thread at a time.
class NarrowTrial {
 public:
  NarrowTrial(const Linear& linear, int threads) : linear_(linear), threads_(threads) {}

  /// Prepares a candidate and compares sampled outputs with double (bf16) or integer (int8) sums.
  bool verify(const std::string& choice);
  void run(const std::string& choice);
  void release(const std::string& choice) { plans_.erase(choice); }

 private:
  struct Sample {
    std::int64_t at = 0;  // in dst
    double value = 0, magnitude = 0;
  };

  void make_data();
  Sample expected(std::int64_t row, int output) const;
  bool right(const Sample& sample) const;

  Linear linear_;
  int threads_;
  std::shared_ptr<LinearWeights> weights_;
  Quantiser quantiser_, copy_quantiser_;
  std::vector<float> values_, multiplier_, bias_;  // the weights as numbers
  core::Buffer<float> operand_, residual_, dst_;   // operand_: src as the products see it
  core::Buffer<std::byte> src_, copy_, scratch_;
  std::vector<Sample> samples_;
  std::map<std::string, LinearPlan> plans_;
};

}  // namespace replk::dense
