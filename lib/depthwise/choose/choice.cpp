#include "depthwise/choose/choice.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <cstddef>
#include <iterator>
#include <map>
#include <memory>
#include <mutex>
#include <utility>

#include "core/error.hpp"
#include "depthwise/choose/trial.hpp"
#include "jit/kernels/samples.hpp"
#include "jit/x64/code.hpp"
#include "jit/x64/fingerprint.hpp"

namespace replk::depthwise {
namespace {

using core::fail;
using core::Status;

// Part of every key, beside the fingerprint of the generators and the constants of the algorithms. To be
// raised when other code changes: what a tiling's fields mean, or how an executor walks through its passes.
// What was measured before is then a miss.
constexpr const char* kVersion = "7";

/// One undilated branch says no more than its numeric size does; anything else transfers to its like only.
std::string branches_text(const Problem& problem) {
  const auto plain = [](const Branch& b) { return b.dilation_h == 1 && b.dilation_w == 1; };
  if (problem.branches.size() == 1 && plain(problem.branches[0])) return "one";
  std::string text;
  for (const Branch& b : problem.branches) {
    if (!text.empty()) text += ',';
    text += fmt::format("{}x{}", b.kernel_h, b.kernel_w);
    if (!plain(b)) text += fmt::format("d{}x{}", b.dilation_h, b.dilation_w);
  }
  return text;
}

std::string epilogue_text(const Epilogue& e) {
  static const char* const activations[] = {"none", "relu", "gelu", "silu", "hardswish"};
  return fmt::format("{}{}{}{}", e.bias ? "bias," : "", activations[static_cast<int>(e.activation)],
                     e.scale ? ",scale" : "", e.residual ? ",residual" : "");
}

std::string padding_text(const Problem& problem) {
  Problem same = problem;
  set_default_padding(same);
  const auto text = [](const Padding& p) {
    return p.before == p.after ? fmt::format("{}", p.before) : fmt::format("{}:{}", p.before, p.after);
  };
  return same == problem ? "same" : fmt::format("{}x{}", text(problem.pad_h), text(problem.pad_w));
}

std::string type_text(const Problem& p) {
  std::string text(name(p.type));
  if (p.out_type) text += fmt::format(">{}", name(*p.out_type));
  return text;
}
std::string layout_text(const Problem& p) {
  const auto text = [](Layout layout) { return layout == Layout::nhwc ? "nhwc" : "nchw"; };
  std::string all = text(p.layout);
  if (p.output_layout() != p.layout) all += fmt::format(">{}", text(p.output_layout()));
  if (p.multiplier != 1) all += fmt::format("x{}", p.multiplier);
  return all;
}

Tiling spell(Tiling tiling, bool vector_256, int threads, int all_threads) {
  if (vector_256) tiling.set("vector", 256);
  if (threads != all_threads) tiling.set("threads", threads);
  return tiling;
}

Request on(const Request& request, int threads) {
  Request fewer = request;
  fewer.threads = threads;
  return fewer;
}

Request narrowed(const Request& request) {
  Request narrow = request;
  narrow.features = features_of(Isa::avx2);
  return narrow;
}

/// Of a prediction for AVX2's code: its row may be fitted to another clock than the request's.
double narrowed_clock(const Request& request) {
  return machine(narrowed(request).features).clock / machine(request.features).clock;
}

/// Takes a field out of a tiling; nothing where it has none.
std::optional<int> take(Tiling& tiling, std::string_view name) {
  if (tiling.word(name).empty()) return std::nullopt;
  const int value = tiling.number(name, 0);
  std::erase_if(tiling.fields, [&](const auto& field) { return field.first == name; });
  return value;
}

/// A gradient's question is another's. (That of the forward pass has the key it always had.)
std::string op_text(Pass pass) {
  switch (pass) {
    case Pass::forward:
      return "depthwise";
    case Pass::input_gradient:
      return "depthwise input-gradient";
    case Pass::weight_gradient:
      return "depthwise weight-gradient";
  }
  return {};
}

}  // namespace

std::string key_version(Isa isa, std::span<const KeyPart> parts) {
  jit::Fingerprint fingerprint;
  fingerprint.add(jit::fingerprint(isa));
  if (machine(features_of(isa)).splits) fingerprint.add(jit::fingerprint(Isa::avx2));
  for (const KeyPart& part : parts) {
    fingerprint.add(part.name);
    fingerprint.add(part.constants);
  }
  return fmt::format("{}.{:016x}", kVersion, fingerprint.value());
}

tuner::Key question_key(const Request& request, const std::optional<std::string>& algorithm,
                        std::span<const KeyPart> parts) {
  const Problem& p = request.problem;
  const Isa isa = request.isa();
  int extent_h = 1, extent_w = 1;
  for (const Branch& branch : p.branches) {
    extent_h = std::max(extent_h, branch.extent_h());
    extent_w = std::max(extent_w, branch.extent_w());
  }
  // The best tiling depends on the map and the kernel; channels and images only repeat it.
  std::string shape = to_string(p);
  if (request.pass != Pass::forward) shape += fmt::format(" {}", name(request.pass));
  if (request.cold) shape += " cold";
  tuner::Key key{std::move(shape),
                 {tuner::word("op", op_text(request.pass)),
                  tuner::word("numerics", p.numerics == Numerics::exact ? "exact" : "fast"),
                  tuner::word("layout", layout_text(p)), tuner::word("type", type_text(p)),
                  tuner::word("branches", branches_text(p)),
                  tuner::word("stride", fmt::format("{}x{}", p.stride_h, p.stride_w)),
                  tuner::word("padding", padding_text(p)), tuner::word("epilogue", epilogue_text(p.epilogue)),
                  tuner::number("batch", p.batch, 0.25), tuner::number("channels", p.channels, 0.25),
                  tuner::number("height", p.height), tuner::number("width", p.width),
                  tuner::number("kernel_h", extent_h), tuner::number("kernel_w", extent_w),
                  tuner::word("only", algorithm.value_or("any")), tuner::word("isa", name(isa)),
                  tuner::word("threads", std::to_string(request.threads)),
                  tuner::word("version", key_version(isa, parts))}};
  if (request.cold) key.fields.push_back(tuner::word("caches", "cold"));
  return key;
}

Tiling Choice::spelled(int all_threads) const {
  return spell(variant->tiling(), vector_256, threads, all_threads);
}

Features plan_features(const PlanOptions& options) {
  const Isa isa = std::min(options.isa.value_or(core::cpu().isa), core::cpu().hardware);
  return isa != Isa::portable && jit::code_allowed() ? features_of(isa) : Features();
}

double Choice::predict(const Request& request) const {
  const double seconds = vector_256
                             ? variant->predict(machine(narrowed(request).features)) * narrowed_clock(request)
                             : variant->predict(machine(request.features));
  return with_team(seconds, threads);
}

std::optional<Choice> read_choice(std::string_view text, const Request& request) try {
  Tiling tiling = Tiling::parse(text);
  Choice choice;
  choice.threads = request.threads;
  if (const auto threads = take(tiling, "threads")) {
    if (*threads < 1 || *threads > request.threads) return std::nullopt;
    choice.threads = *threads;
  }
  Request used = on(request, choice.threads);
  if (const auto vector = take(tiling, "vector")) {
    if (*vector != 256 || request.isa() != Isa::avx512) return std::nullopt;
    choice.vector_256 = true;
    used = narrowed(used);
  }
  const Algorithm* algorithm = find_algorithm(tiling.algorithm);
  if (algorithm) choice.variant = algorithm->read(used, tiling);
  return choice.variant ? std::optional(std::move(choice)) : std::nullopt;
} catch (const core::Error&) {  // not a tiling at all
  return std::nullopt;
}

Choice fed(Choice choice, const Request& request) {
  const auto same_on = [&](int threads) {
    return read_choice(spell(choice.variant->tiling(), choice.vector_256, threads, 0).to_string(), request);
  };
  if (choice.threads == 1) return choice;
  const std::optional<Choice> one = same_on(1);
  const int useful = one ? useful_threads(choice.threads, one->predict(request)) : choice.threads;
  if (useful == choice.threads) return choice;
  std::optional<Choice> fewer = same_on(useful);
  if (!fewer) return choice;
  fewer->source = std::move(choice.source);
  return *std::move(fewer);
}

namespace {

/// The tilings of all algorithms (or of one) on as many threads as the work feeds, and for small work the
/// best of them on fewer.
std::vector<tuner::Candidate> candidates_of(const Request& request,
                                            const std::optional<std::string>& algorithm, Breadth breadth) {
  TeamCandidates c = team_candidates(request.threads, [&](int threads, bool few) {
    std::vector<tuner::Candidate> all;
    const Request used = on(request, threads);
    for (const Algorithm* a : algorithms()) {
      if (algorithm && a->name() != *algorithm) continue;
      for (Candidate& each : few                       ? a->candidates(used, tilings_on_fewer)
                             : breadth == Breadth::all ? a->candidates(used, SIZE_MAX)
                                                       : a->candidates(used))
        all.push_back({spell(std::move(each.tiling), false, threads, request.threads).to_string(),
                       with_team(each.predicted_seconds, threads), a->complexity()});
    }
    return all;
  });
  if (machine(request.features).splits)
    std::ranges::move(narrower_candidates(request, algorithm, c.best_seconds, c.threads),
                      std::back_inserter(c.all));
  return std::move(c.all);
}

/// The candidates of questions asked before. To predict them takes most of the time of a plan whose code
/// exists, and they are the same for the life of a process: another plan of the same problem looks them up.
class KnownCandidates {
 public:
  using List = std::vector<tuner::Candidate>;
  List get(const std::string& key, const std::function<List()>& compute) {
    {
      std::lock_guard lock(mutex_);
      if (const auto found = known_.find(key); found != known_.end()) return found->second;
    }
    List list = compute();
    std::lock_guard lock(mutex_);
    if (known_.size() >= most) known_.clear();
    known_[key] = list;
    return list;
  }

 private:
  static constexpr std::size_t most = 64;  // some 20 KB each
  std::mutex mutex_;
  std::map<std::string, List> known_;
};

}  // namespace

std::vector<tuner::Candidate> narrower_candidates(const Request& request,
                                                  const std::optional<std::string>& algorithm,
                                                  double best_seconds, int threads) {
  std::vector<tuner::Candidate> all;
  if (request.isa() != Isa::avx512) return all;
  const Request narrow = narrowed(on(request, threads));
  const double clock = narrowed_clock(request);
  for (const Algorithm* a : algorithms()) {
    if (a->name() == "portable" || (algorithm && a->name() != *algorithm)) continue;
    for (Candidate& each : a->candidates(narrow, narrower_tilings))
      all.push_back({spell(std::move(each.tiling), true, threads, request.threads).to_string(),
                     std::max(best_seconds, with_team(each.predicted_seconds * clock, threads)),
                     a->complexity()});
  }
  return all;
}

std::vector<tuner::Candidate> known_candidates(
    const tuner::Key& key, const std::function<std::vector<tuner::Candidate>()>& compute) {
  static KnownCandidates* const instance = new KnownCandidates;
  return instance->get(key.shape + key.json(), compute);  // the key alone leaves out strides
}

namespace {

/// Reads tilings as choices and keeps the last: what is found legal is mostly what is taken next.
class Reader {
 public:
  explicit Reader(const Request& request) : request_(request) {}
  const std::optional<Choice>& read(const std::string& text) {
    if (text != text_ || !choice_) {
      choice_ = read_choice(text, request_);
      text_ = text;
    }
    return choice_;
  }

 private:
  Request request_;
  std::string text_;
  std::optional<Choice> choice_;
};

tuner::Question question(const Request& request, const std::optional<std::string>& algorithm, Breadth breadth,
                         const std::shared_ptr<Reader>& reader) {
  // The question outlives this call, and so must what its functions refer to.
  const auto trial = std::make_shared<Trial>(request);
  tuner::Question q;
  q.key = question_key(request, algorithm, key_parts(algorithms()));
  q.candidates = [=, key = q.key] {
    const auto compute = [&] { return candidates_of(request, algorithm, breadth); };
    if (breadth == Breadth::all) return compute();
    return known_candidates(key, compute);
  };
  q.legal = [=](const std::string& text) { return reader->read(text).has_value(); };
  q.runner = {[trial](const std::string& text) { return trial->verify(text); },
              [trial](const std::string& text) { trial->run(text); },
              [trial](const std::string& text) { trial->release(text); }, [trial] { trial->move(); }};
  if (request.cold) {
    q.runner.before = [trial](const std::string& text) { trial->cool(text); };
    Request warm = request;
    warm.cold = false;
    q.kin = question_key(warm, algorithm, key_parts(algorithms()));
  }
  return q;
}

}  // namespace

tuner::Question question(const Request& request, const std::optional<std::string>& algorithm,
                         Breadth breadth) {
  return question(request, algorithm, breadth, std::make_shared<Reader>(request));
}

Choice choose(const Request& request, const PlanOptions& options) {
  const auto reader = std::make_shared<Reader>(request);
  const auto named = [&](const std::string& text, const std::string& source) {
    std::optional<Choice> choice = reader->read(text);
    if (!choice)
      fail(Status::invalid_argument, "tiling '{}' cannot compute {} on {}", text, to_string(request.problem),
           name(request.isa()));
    choice->source = source;
    return *std::move(choice);
  };
  if (options.tiling) return named(options.tiling->to_string(), "forced");
  if (options.algorithm && !find_algorithm(*options.algorithm))
    fail(Status::invalid_argument, "algorithm '{}' does not exist", *options.algorithm);

  tuner::Choice pick;
  try {
    pick = tuner::choose(question(request, options.algorithm, Breadth::likely, reader));
  } catch (const core::Error& error) {
    if (error.status() != Status::unsupported) throw;
    fail(Status::invalid_argument, "algorithm '{}' cannot compute {} on {}",
         options.algorithm.value_or("any"), to_string(request.problem), name(request.isa()));
  }
  // A record may be of a near shape that has more work.
  return fed(named(pick.text, pick.source), request);
}

}  // namespace replk::depthwise
