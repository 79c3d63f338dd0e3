// The program's command line, one argument a line: parsed and checked, never carried out.
#include <CLI/CLI.hpp>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <string>
#include <vector>

#include "cli/common.hpp"
#include "cli/program.hpp"
#include "core/error.hpp"
#include "tests/fuzz/limits.hpp"

using namespace replk;

namespace {

struct Understood {};

CLI::App& program() {
  static CLI::App app("Networks with large depthwise kernels, fast on x86-64 CPUs.", "replk");
  static const bool described = [] {
    cli::describe(app);
    // Runs before what a command would do. (To take that away would take away the variables that its options
    // fill.)
    app.parse_complete_callback([] { throw Understood{}; });
    return true;
  }();
  (void)described;
  return app;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  CLI::App& app = program();
  const fuzz::Limits limits;
  const std::string text(reinterpret_cast<const char*>(data), size);
  std::vector<std::string> last_first;  // as CLI11 takes them
  for (std::size_t end = text.size();;) {
    const std::size_t line = end == 0 ? std::string::npos : text.rfind('\n', end - 1);
    last_first.push_back(text.substr(line == std::string::npos ? 0 : line + 1,
                                     end - (line == std::string::npos ? 0 : line + 1)));
    if (line == std::string::npos) break;
    end = line;
  }
  try {
    app.parse(std::move(last_first));
    std::abort();  // it was carried out
  } catch (const Understood&) {
  } catch (const CLI::Success& asked) {
    if (asked.get_exit_code() != 0 || app.help().empty()) std::abort();
  } catch (const CLI::ParseError& error) {
    if (cli::explain(app, error).empty()) std::abort();
  } catch (const core::Error&) {
  }
  return 0;
}
