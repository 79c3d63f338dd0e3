// What `tune`, `explain` and `cache` work on: a depthwise convolution or a dense layer as a question to the
// tuner.
#pragma once
#include <optional>
#include <string>
#include <vector>

#include "model/workload.hpp"
#include "tuner/tuner.hpp"

namespace replk::cli {

/// A shape as a cache or a user spells it: `n1c128h56w56k31`, or `linear-...` and `dense-...` as `replk tune
/// --model` prints them. Throws invalid_argument for anything else.
tuner::Question ask(const std::string& shape, int threads);

/// The question that a record of this machine answers; nothing where its shape, threads or key make no sense
/// together.
std::optional<tuner::Question> ask(const tuner::Record& record);

/// The layers of a network that have a choice, in the order they run, each once.
std::vector<std::string> shapes_of(const model::Workload& workload);

}  // namespace replk::cli
