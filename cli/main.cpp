// The program `replk`: reads the command line, runs one command, turns errors into one line and an exit code.
#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <nlohmann/json.hpp>
#include <string>
#include <string_view>
#include <vector>

#include "cli/commands.hpp"
#include "cli/common.hpp"
#include "core/error.hpp"

namespace {

using namespace replk;

// The command that was asked for, as it is typed: `replk`, `replk info`, `replk bench model`.
std::string command_line_name(const CLI::App& app) {
  for (const CLI::App* command : app.get_subcommands()) {
    return app.get_name() + " " + command_line_name(*command);
  }
  return app.get_name();
}

// CLI11 misses a command before it minds the word that stands in its place.
std::string explain(const CLI::App& program, const CLI::ParseError& error) {
  if (dynamic_cast<const CLI::RequiredError*>(&error)) {
    for (const std::string& word : program.remaining(/*recurse=*/true)) {
      if (!word.starts_with('-')) return fmt::format("'{}' is not known here", word);
    }
  }
  return error.what();
}

// Looked for by hand, because the command line may be what is wrong.
bool wants_json(int argc, char** argv) {
  for (int i = 1; i < argc; ++i) {
    if (std::string_view(argv[i]) == "--json") return true;
  }
  return false;
}

int fail(bool json, const std::string& message) {
  if (json) cli::print_json({{"error", message}});
  cli::report_failure(message);
  return cli::exit_wrong;
}

int run(int argc, char** argv) {
  CLI::App program("Networks with large depthwise kernels, fast on x86-64 CPUs.", "replk");
  program.set_version_flag("--version", "replk " REPLK_VERSION);
  program.require_subcommand(1);
  cli::add_classify(program);
  cli::add_features(program);
  cli::add_eval(program);
  cli::add_erf(program);
  cli::add_tune(program);
  cli::add_explain(program);
  cli::add_cache(program);
  cli::add_info(program);
  CLI::App* bench = program.add_subcommand("bench", "Time kernels and networks against other libraries");
  bench->require_subcommand(1);
  cli::add_bench_depthwise(*bench);
  cli::add_bench_model(*bench);

  const bool json = wants_json(argc, argv);
  try {
    program.parse(argc, argv);
    return cli::exit_done;
  } catch (const CLI::RuntimeError& error) {  // thrown by a command's own exit code
    return error.get_exit_code();
  } catch (const CLI::Success& asked_for_help) {
    return program.exit(asked_for_help);
  } catch (const CLI::ParseError& error) {
    return fail(json, fmt::format("{}; see {} --help", explain(program, error), command_line_name(program)));
  } catch (const core::Error& error) {
    return fail(json, error.what());
  } catch (const std::bad_alloc&) {
    return fail(json, "out of memory");
  } catch (const std::exception& error) {
    return fail(json, fmt::format("internal error: {}; please report it", error.what()));
  }
}

}  // namespace

int main(int argc, char** argv) {
  const int code = run(argc, argv);
  if (std::fflush(stdout) != 0 || std::ferror(stdout)) {
    cli::report_failure(fmt::format("standard output: {}", std::strerror(errno)));
    return cli::exit_failures;
  }
  return code;
}
