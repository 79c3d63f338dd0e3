// What the commands share: exit codes, the one JSON object, sizes, progress.
#pragma once
#include <cstdint>
#include <functional>
#include <nlohmann/json_fwd.hpp>
#include <optional>
#include <string>
#include <string_view>

namespace CLI {
class App;
}

namespace replk::cli {

/// What the program returns to the shell.
enum ExitCode {
  exit_done = 0,
  exit_failures = 1,  // done, but some of what was asked for failed (each failure was reported)
  exit_wrong = 2,     // wrong use or wrong input: nothing was done
};

/// A command's body. It prints its result on standard output (with `json`: one object, by print_json, and
/// nothing else). What it cannot do because of its input it throws as core::Error; main() prints that as one
/// line and returns 2.
using Run = std::function<ExitCode(bool json)>;

/// Adds a command to the program, or to a group of commands such as `bench`, with its --help and --json.
CLI::App& add_command(CLI::App& parent, const std::string& name, const std::string& description, Run run);

/// Prints one object and a line end on standard output. Bytes that are not UTF-8 are replaced, NaN becomes
/// null.
void print_json(const nlohmann::ordered_json& object);

/// Tells on standard error of one item that failed while the others go on: `replk: MESSAGE`, as one line.
void report_failure(std::string_view message);

struct Size {
  int height = 0, width = 0;
  std::string to_string() const;  // HxW
};

/// `HxW` or `S` for SxS, each 1..16384. Throws invalid_argument naming `field`.
Size parse_size(std::string_view field, std::string_view text);

/// Options that several commands have. The value is left as it is where the option is not given.
void add_size_option(CLI::App& command, std::optional<Size>& size, const std::string& description);
void add_threads_option(CLI::App& command, int& threads);  // 1..1024; 0 stands for all

/// "3 of 40 images" on standard error, rewritten in place; silent unless standard error is a terminal.
class Progress {
 public:
  Progress(std::int64_t total, std::string what);
  ~Progress();  // clears the line
  Progress(const Progress&) = delete;
  Progress& operator=(const Progress&) = delete;
  void advance();

 private:
  void draw() const;
  std::int64_t total_, done_ = 0;
  std::string what_;
  bool shown_;
};

}  // namespace replk::cli
