// What the commands share: exit codes, the one JSON object, sizes, progress.
#pragma once
#include <cstdint>
#include <functional>
#include <nlohmann/json_fwd.hpp>
#include <optional>
#include <string>
#include <string_view>
#include <utility>

#include "core/clock.hpp"
#include "tuner/tuner.hpp"

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

/// Reports one failed item on standard error while the others go on: `replk: MESSAGE`, as one line.
void report_failure(std::string_view message);

struct Size {
  int height = 0, width = 0;
  std::string to_string() const;  // HxW
};

/// The size of a network's input: `HxW` or `S` for SxS, each 16..16384. Throws invalid_argument naming
/// `field`.
Size parse_size(std::string_view field, std::string_view text);

/// Options that several commands have. The value is left as it is where the option is not given.
void add_size_option(CLI::App& command, std::optional<Size>& size, const std::string& description);
void add_threads_option(CLI::App& command, int& threads);  // 1..1024; 0 stands for all

/// A line on standard error that is rewritten in place, at most ten times a second, and gone in the end.
/// Silent unless standard error is a terminal.
class StatusLine {
 public:
  StatusLine();
  ~StatusLine();
  StatusLine(const StatusLine&) = delete;
  StatusLine& operator=(const StatusLine&) = delete;
  void show(std::string_view text);
  void clear();

 private:
  bool terminal_, shown_ = false;
  double last_ = 0;
};

/// While it stands, what is planned is tuned first where the cache has nothing, unless REPLK_TUNING says
/// otherwise: a program that times must not time a guess. Shows the race on the status line.
class TuneFirst {
 public:
  TuneFirst();
  ~TuneFirst();
  TuneFirst(const TuneFirst&) = delete;
  TuneFirst& operator=(const TuneFirst&) = delete;

 private:
  tuner::Settings before_;
  StatusLine line_;
};

/// A bar with "3 of 40 images, 12.5 a second", as a StatusLine.
class Progress {
 public:
  Progress(std::int64_t total, std::string what)
      : total_(total), what_(std::move(what)), start_(core::seconds()) {}
  void advance(std::int64_t steps = 1);
  /// To be called before something is printed while this stands.
  void clear() { line_.clear(); }

 private:
  std::int64_t total_, done_ = 0;
  std::string what_;
  double start_;
  StatusLine line_;
};

}  // namespace replk::cli
