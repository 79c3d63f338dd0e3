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
/// The gradient of an input asks about one of shapes_of_pass(). cold: a depthwise convolution as a network
/// meets it (of dense layers it says nothing).
tuner::Question ask(const std::string& shape, int threads, depthwise::Pass pass = depthwise::Pass::forward,
                    bool cold = false);

/// The shapes that a pass of a shape asks the tuner about: the shape itself, or the forward passes that the
/// gradient of its input is made of (one of a layer with stride 1).
std::vector<std::string> shapes_of_pass(const std::string& shape, depthwise::Pass pass);

/// The option --cold, which goes with the forward pass alone.
void add_cold_option(CLI::App& command, bool& cold);

/// The option --pass.
void add_pass_option(CLI::App& command, depthwise::Pass& pass);

/// The question that a record of this machine answers; nothing where its shape, threads or key make no sense
/// together.
std::optional<tuner::Question> ask(const tuner::Record& record);

/// What a network on so many threads asks the tuner, in the order its layers run.
std::vector<tuner::Question> questions_of(const model::NetworkWorkload& workload, int threads);

}  // namespace replk::cli
