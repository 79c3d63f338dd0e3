#include "bench/visit.hpp"

#include <fcntl.h>
#include <fmt/format.h>
#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstdio>
#include <filesystem>
#include <nlohmann/json.hpp>

#include "core/error.hpp"
#include "measure/row_json.hpp"

extern char** environ;

namespace replk::bench {

namespace {

/// Gemm code takes 6 ns a multiply-add here and never counts: beyond this, a fraction of a second, it is
/// named only.
constexpr double kGemmMacs = 1e8;

std::string output_of(std::vector<std::string> words) {
  std::vector<char*> arguments;
  for (std::string& word : words) arguments.push_back(word.data());
  arguments.push_back(nullptr);
  std::array<int, 2> ends{};
  if (::pipe2(ends.data(), O_CLOEXEC) != 0) core::fail(core::Status::internal, "no pipe for a child process");
  posix_spawn_file_actions_t actions;
  posix_spawn_file_actions_init(&actions);
  posix_spawn_file_actions_adddup2(&actions, ends[1], STDOUT_FILENO);
  pid_t child = 0;
  const int failed = ::posix_spawn(&child, arguments[0], &actions, nullptr, arguments.data(), environ);
  posix_spawn_file_actions_destroy(&actions);
  ::close(ends[1]);
  std::string text;
  std::array<char, 4096> part{};
  for (ssize_t got; !failed && (got = ::read(ends[0], part.data(), part.size())) != 0;) {
    if (got > 0)
      text.append(part.data(), static_cast<std::size_t>(got));
    else if (errno != EINTR)
      break;
  }
  ::close(ends[0]);
  if (failed) core::fail(core::Status::internal, "cannot start {}: error {}", words[0], failed);
  int status = 0;
  while (::waitpid(child, &status, 0) < 0 && errno == EINTR) {
  }
  if (!WIFEXITED(status))
    core::fail(core::Status::internal, "the child process was ended by signal {}", WTERMSIG(status));
  return text;
}

}  // namespace

DepthwiseRow visit_in_child(const std::string& shape, const VisitOptions& options) {
  std::vector<std::string> words{std::filesystem::read_symlink("/proc/self/exe"),
                                 "--visit",
                                 shape,
                                 "--threads",
                                 std::to_string(options.threads),
                                 "--cold-rounds",
                                 std::to_string(options.cold_rounds)};
  for (const std::string& name : options.skipped_peers) words.insert(words.end(), {"--skip-peer", name});
  if (options.spoil) words.emplace_back("--spoil");
  const nlohmann::ordered_json answer =
      nlohmann::ordered_json::parse(output_of(std::move(words)), nullptr, false);
  if (answer.is_discarded()) core::fail(core::Status::internal, "{}: its process gave no result", shape);
  if (answer.contains("error")) core::fail(core::Status::internal, "{}", answer["error"].get<std::string>());
  return row_from_json(answer);
}

int visit_as_child(const std::string& shape, const VisitOptions& options) {
  DepthwiseOptions measure;
  measure.threads = options.threads;
  measure.cold_rounds = options.cold_rounds;
  measure.skipped_peers = options.skipped_peers;
  measure.race.seconds = 0.3;
  measure.gemm_macs = kGemmMacs;
  if (options.spoil)
    measure.spoil = [](std::span<std::byte> dst) { dst.back() ^= std::byte{0x40}; };  // an exponent
  nlohmann::ordered_json answer;
  try {
    answer = to_json(measure_depthwise(depthwise::parse(shape), measure));
  } catch (const core::Error& error) {
    answer = {{"error", error.what()}};
  }
  std::puts(answer.dump().c_str());
  return answer.contains("error") ? 1 : 0;
}

}  // namespace replk::bench
