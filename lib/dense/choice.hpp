// Which engine computes a dense layer: what the tuner is asked, and how layers are spelt in its cache.
#pragma once
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>

#include "dense/dense.hpp"
#include "tuner/tuner.hpp"

namespace replk::dense {

/// `linear-r3136i128o512+bias+gelu+residual` and `dense-n1c3o128h224w224k3x3s2x2p1x1+bias+relu`. The parsers
/// return nothing for anything else.
std::string to_string(const Linear& linear);
std::string to_string(const Convolution& convolution);
std::optional<Linear> parse_linear(std::string_view text);
std::optional<Convolution> parse_convolution(std::string_view text);

/// Which code this is, of the generators and of what the engines decide by beside it: part of every key.
std::string key_version(std::span<const std::int32_t> constants);

/// Candidates are candidates(layer, threads), the analytic pick best predicted. Measured on seeded weights
/// and data, checked against double sums first.
tuner::Question question(const Linear& linear, int threads);
tuner::Question question(const Convolution& convolution, int threads);

}  // namespace replk::dense
