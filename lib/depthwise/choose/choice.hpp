// Which candidate a plan uses: the one place where the tuner meets the algorithms.
#pragma once
#include <cstddef>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "depthwise/algorithm.hpp"
#include "depthwise/choose/team.hpp"
#include "depthwise/plan.hpp"
#include "tuner/tuner.hpp"

namespace replk::depthwise {

struct Choice {
  std::shared_ptr<const Variant> variant;
  int threads = 1;          // to run with: those of the request, or fewer where the work is too small for all
  bool vector_256 = false;  // AVX2's code, though the request has AVX-512
  std::string source;       // as Plan::source()

  /// The tiling as it is stored and printed: with `vector=256` where that is so, and with `threads=N` where N
  /// is not all.
  Tiling spelled(int all_threads) const;
  /// Seconds by the cost model, as candidates have them. request: the one that it was read for.
  double predict(const Request& request) const;
};

/// What a plan's code may use: what options ask, at most what the machine has, nothing where code cannot be
/// generated.
Features plan_features(const PlanOptions& options);

/// Throws invalid_argument where a forced tiling or algorithm cannot compute what is asked.
Choice choose(const Request& request, const PlanOptions& options);

/// The tiling that a text spells, if it can compute what is asked; trusts nothing. The source stays empty.
std::optional<Choice> read_choice(std::string_view text, const Request& request);

/// The same on fewer threads where its work does not feed all that it has (useful_threads). request: the one
/// that it was read for.
Choice fed(Choice choice, const Request& request);

/// How many candidates a question has: the best predicted of each algorithm, or all there are, for a search
/// that leaves out nothing.
enum class Breadth { likely, all };

/// Of an algorithm, what its executors decide by.
struct KeyPart {
  std::string_view name;
  std::span<const std::int32_t> constants;
};
/// Of algorithms of any pass.
template <class A>
std::vector<KeyPart> key_parts(const std::vector<const A*>& all) {
  std::vector<KeyPart> parts;
  for (const A* algorithm : all) parts.push_back({algorithm->name(), algorithm->constants()});
  return parts;
}

/// Which code this is, of the generators and of all that these algorithms decide by beside it: part of every
/// key.
std::string key_version(Isa isa, std::span<const KeyPart> parts);

/// What the answer to a question depends on. Its shape is to_string(problem), and behind it, apart, the name
/// of a pass that is not the forward one.
tuner::Key question_key(const Request& request, const std::optional<std::string>& algorithm,
                        std::span<const KeyPart> parts);

/// The best tilings of each algorithm in AVX2's code, for a request that has AVX-512 (else none): on CPUs
/// that split vectors of 512 bits (Machine::splits) neither width always wins, so that both are raced. None
/// is predicted to be faster than `best_seconds`: without a measurement the wider one is taken. They run on
/// so many threads of the request's.
std::vector<tuner::Candidate> narrower_candidates(const Request& request,
                                                  const std::optional<std::string>& algorithm,
                                                  double best_seconds, int threads);
constexpr std::size_t narrower_tilings = 6;  // of each algorithm

/// The candidates of a key: computed once a process, and then looked up (a few dozen keys' are kept). To
/// predict them takes most of the time of a plan whose code exists.
std::vector<tuner::Candidate> known_candidates(const tuner::Key& key,
                                               const std::function<std::vector<tuner::Candidate>()>& compute);

constexpr std::size_t tilings_on_fewer = 4;  // of each algorithm that are tried on fewer threads than useful

/// What the tuner is asked; `algorithm` restricts it to one. The key's shape is to_string(problem).
tuner::Question question(const Request& request, const std::optional<std::string>& algorithm = {},
                         Breadth breadth = Breadth::likely);

}  // namespace replk::depthwise
