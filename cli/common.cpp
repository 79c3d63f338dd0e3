#include "cli/common.hpp"

#include <fmt/format.h>
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <charconv>
#include <cstdio>
#include <nlohmann/json.hpp>
#include <utility>

#include "core/clock.hpp"
#include "core/error.hpp"

namespace replk::cli {
namespace {

constexpr int min_side = 16, max_side = 16384;

bool parse_side(std::string_view text, int& side) {
  const char* end = text.data() + text.size();
  const auto [stop, error] = std::from_chars(text.data(), end, side);
  return error == std::errc() && stop == end && side >= min_side && side <= max_side;
}

}  // namespace

CLI::App& add_command(CLI::App& parent, const std::string& name, const std::string& description, Run run) {
  CLI::App* command = parent.add_subcommand(name, description);
  const CLI::Option* json =
      command->add_flag("--json")->description("Print one JSON object on standard output and nothing else");
  command->final_callback([json, run = std::move(run)] {
    const ExitCode code = run(json->count() > 0);
    if (code != exit_done) throw CLI::RuntimeError(code);
  });
  return *command;
}

void print_json(const nlohmann::ordered_json& object) {
  fmt::print("{}\n", object.dump(2, ' ', false, nlohmann::ordered_json::error_handler_t::replace));
}

void report_failure(std::string_view message) {
  std::string line(message);
  for (char& c : line) {
    if (c == '\n' || c == '\r') c = ' ';
  }
  fmt::print(stderr, "replk: {}\n", line);
}

std::string Size::to_string() const {
  return fmt::format("{}x{}", height, width);
}

Size parse_size(std::string_view field, std::string_view text) {
  const std::size_t cross = text.find('x');
  Size size;
  const bool valid = cross == std::string_view::npos ? parse_side(text, size.height)
                                                     : parse_side(text.substr(0, cross), size.height) &&
                                                           parse_side(text.substr(cross + 1), size.width);
  if (!valid) {
    core::fail(core::Status::invalid_argument, "{}: '{}' is not a size; give HxW or one number, each {}..{}",
               field, text, min_side, max_side);
  }
  if (cross == std::string_view::npos) size.width = size.height;
  return size;
}

void add_size_option(CLI::App& command, std::optional<Size>& size, const std::string& description) {
  command
      .add_option_function<std::string>(
          "--size", [&size](const std::string& text) { size = parse_size("--size", text); }, description)
      ->type_name("HxW");
}

void add_threads_option(CLI::App& command, int& threads) {
  command.add_option("--threads", threads, "Threads to use (default: every CPU this process may use)")
      ->type_name("N")
      ->check(CLI::Range(1, 1024));
}

StatusLine::StatusLine() : terminal_(isatty(STDERR_FILENO)) {}

StatusLine::~StatusLine() {
  clear();
}

void StatusLine::show(std::string_view text) {
  if (!terminal_) return;
  const double now = core::seconds();
  if (shown_ && now - last_ < 0.1) return;
  fmt::print(stderr, "\r\033[K{}", text);
  std::fflush(stderr);
  shown_ = true;
  last_ = now;
}

void StatusLine::clear() {
  if (shown_) fmt::print(stderr, "\r\033[K");
  shown_ = false;
}

TuneFirst::TuneFirst() : before_(tuner::settings()) {
  if (tuner::mode_of_environment()) return;
  tuner::Settings settings = before_;
  settings.mode = tuner::Mode::now;
  settings.progress = [this](const tuner::Progress& progress) {
    line_.show(fmt::format("tuning {}: {} left, {}", progress.shape, progress.left, progress.leader));
  };
  tuner::set_settings(std::move(settings));
}

TuneFirst::~TuneFirst() {
  tuner::set_settings(before_);
}

void Progress::advance(std::int64_t steps) {
  done_ += steps;
  constexpr std::int64_t width = 30;
  const std::int64_t filled =
      std::clamp<std::int64_t>(done_ * width / std::max<std::int64_t>(total_, 1), 0, width);
  const double seconds = core::seconds() - start_;
  line_.show(fmt::format("[{:#<{}}{:.<{}}] {} of {} {}, {:.1f} a second", "", filled, "", width - filled,
                         done_, total_, what_, static_cast<double>(done_) / std::max(seconds, 1e-9)));
}

}  // namespace replk::cli
