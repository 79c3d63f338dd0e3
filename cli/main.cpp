// The program `replk`: reads the command line, runs one command, turns errors into one line and an exit code.
#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <nlohmann/json.hpp>
#include <string>
#include <string_view>

#include "cli/common.hpp"
#include "cli/program.hpp"
#include "core/error.hpp"

namespace {

using namespace replk;

// Looked for by hand, because the command line may be what is wrong.
bool wants_json(int argc, char** argv) {
  for (int i = 1; i < argc; ++i) {
    if (std::string_view(argv[i]) == "--json") return true;
  }
  return false;
}

int fail(bool json, core::Status status, const std::string& message) {
  // The status is the C API's number: replk.quantize, which runs the program, raises what a call would have.
  if (json) cli::print_json({{"error", message}, {"status", static_cast<int>(status)}});
  cli::report_failure(message);
  return cli::exit_wrong;
}

int run(int argc, char** argv) {
  CLI::App program("Networks with large depthwise kernels, fast on x86-64 CPUs.", "replk");
  cli::describe(program);
  const bool json = wants_json(argc, argv);
  try {
    program.parse(argc, argv);
    return cli::exit_done;
  } catch (const CLI::RuntimeError& error) {  // thrown by a command's own exit code
    return error.get_exit_code();
  } catch (const CLI::Success& asked_for_help) {
    return program.exit(asked_for_help);
  } catch (const CLI::ParseError& error) {
    return fail(json, core::Status::invalid_argument, cli::explain(program, error));
  } catch (const core::Error& error) {
    return fail(json, error.status(), error.what());
  } catch (const std::bad_alloc&) {
    return fail(json, core::Status::out_of_memory, "out of memory");
  } catch (const std::exception& error) {
    return fail(json, core::Status::internal,
                fmt::format("internal error: {}; please report it", error.what()));
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
