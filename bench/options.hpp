// What the programs that measure choices are asked alike: how many threads, and for which reader.
#pragma once
#include <CLI/CLI.hpp>

#include "core/threads.hpp"

namespace replk::bench {

struct Options {
  int threads = core::default_threads();
  bool json = false;  // one object, instead of lines for people
};

inline void add_options(CLI::App& app, Options& options) {
  app.add_option("--threads", options.threads, "Threads (default: all)")->check(CLI::Range(1, 1024));
  app.add_flag("--json", options.json, "Print one JSON object");
}

}  // namespace replk::bench
