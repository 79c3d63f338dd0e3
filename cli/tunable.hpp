// What `tune`, `explain` and `cache` work on: a depthwise convolution or a dense layer as a question to the
// tuner.
#pragma once
#include <CLI/CLI.hpp>
#include <optional>
#include <string>
#include <vector>

#include "depthwise/problem/pass.hpp"
#include "model/workload.hpp"
#include "tuner/tuner.hpp"

namespace replk::cli {

/// A shape as a cache or a user spells it: `n1c128h56w56k31`, or `linear-...` and `dense-...` as `replk tune
/// --model` prints them. Throws invalid_argument for anything else, and for a pass that a shape does not
/// have.
tuner::Question ask(const std::string& shape, int threads, depthwise::Pass pass = depthwise::Pass::forward);

/// The option --pass, one of those that have tilings of their own.
void add_pass_option(CLI::App& command, depthwise::Pass& pass);

/// The question that a record of this machine answers; nothing where its shape, threads or key make no sense
/// together.
std::optional<tuner::Question> ask(const tuner::Record& record);

/// The layers of a network that have a choice, in the order they run, each once.
std::vector<std::string> shapes_of(const model::Workload& workload);

}  // namespace replk::cli
