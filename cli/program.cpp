#include "cli/program.hpp"

#include <fmt/format.h>

#include <CLI/CLI.hpp>

#include "cli/commands.hpp"

namespace replk::cli {
namespace {

// The command that was asked for, as it is typed: `replk`, `replk info`, `replk bench model`.
std::string command_line_name(const CLI::App& app) {
  for (const CLI::App* command : app.get_subcommands()) {
    return app.get_name() + " " + command_line_name(*command);
  }
  return app.get_name();
}

// CLI11 misses a command before it minds the word that stands in its place.
std::string fault(const CLI::App& program, const CLI::ParseError& error) {
  if (dynamic_cast<const CLI::RequiredError*>(&error)) {
    for (const std::string& word : program.remaining(/*recurse=*/true)) {
      if (!word.starts_with('-')) return fmt::format("'{}' is not known here", word);
    }
  }
  return error.what();
}

}  // namespace

void describe(CLI::App& program) {
  program.set_version_flag("--version", "replk " REPLK_VERSION);
  program.require_subcommand(1);
  add_classify(program);
  add_features(program);
  add_eval(program);
  add_erf(program);
  add_tune(program);
  add_explain(program);
  add_cache(program);
  add_quantize(program);
  add_info(program);
  CLI::App* bench = program.add_subcommand("bench", "Time layers and networks against other libraries");
  bench->require_subcommand(1);
  add_bench_depthwise(*bench);
  add_bench_gradient(*bench);
  add_bench_model(*bench);
  add_completion(program);
}

std::string explain(const CLI::App& program, const CLI::ParseError& error) {
  return fmt::format("{}; see {} --help", fault(program, error), command_line_name(program));
}

}  // namespace replk::cli
