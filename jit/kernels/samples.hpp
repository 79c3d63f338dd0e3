// Samples of every kernel: what stands for its generator wherever that is looked at as a whole. Fingerprint
// and tests go through this list; a new kernel is a line in it.
#pragma once
#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "core/features.hpp"
#include "jit/program/registers.hpp"

namespace replk::jit {

struct Sample {
  std::string text;  // of the spec: what the code cache knows it by
  std::function<std::vector<std::uint8_t>()> generate;
  std::function<Counts()> count;  // of kernels that are predicted by it: of one round of their innermost loop
};

/// The specs of all kernels for the instruction set that these features reach, with what they have beside it.
/// Small ones, but between them every branch of every generator runs (sampled_branches_test).
std::vector<Sample> samples(Features features);

/// All features that a CPU of this instruction set may have.
Features features_beside(Isa isa);

/// Which generators these are: of the texts and bytes of all samples of features_beside(isa). What was
/// measured with another fingerprint says nothing about the code of this process, and nobody has to remember
/// to say so. Made once a process and instruction set, in some milliseconds. 0 for portable. Thread-safe.
std::uint64_t fingerprint(Isa isa);

}  // namespace replk::jit
