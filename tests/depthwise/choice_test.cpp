#include "depthwise/choose/choice.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <set>

#include "core/error.hpp"
#include "depthwise/choose/trial.hpp"
#include "depthwise/gradient/weight_choice.hpp"

namespace replk::depthwise {
namespace {

const Features features = plan_features({});
const Isa isa = isa_of(features);

Request ask(const Problem& problem, int threads, Pass pass = Pass::forward) {
  return {problem, pass, features, threads};
}

std::vector<std::string> texts(const tuner::Question& q) {
  std::vector<std::string> all;
  for (const tuner::Candidate& each : q.candidates()) all.push_back(each.text);
  return all;
}

TEST(Choice, EveryCandidateIsLegalDistinctAndPredicted) {
  for (const char* shape :
       {"n1c40h14w14k13", "n2c8h9w11k5x3s2", "n1c16h20w20k51x5,5x51,5x5", "n1c24h14w14k7exact",
        "n1c24h14w14k7nchw", "n1c24h14w14k7bf16+gelu+residual", "n1c8h12w12k3d2"}) {
    const Problem problem = parse(shape);
    for (int threads : {1, 4}) {
      const tuner::Question q = question(ask(problem, threads));
      std::vector<std::string> all = texts(q);
      ASSERT_FALSE(all.empty()) << shape;
      for (const tuner::Candidate& each : q.candidates()) {
        EXPECT_TRUE(q.legal(each.text)) << shape << ": " << each.text;
        EXPECT_GT(each.predicted_seconds, 0) << shape << ": " << each.text;
      }
      std::sort(all.begin(), all.end());
      EXPECT_EQ(std::adjacent_find(all.begin(), all.end()), all.end()) << shape;
    }
  }
}

/// How many constants a pass's key has; each, changed alone, gives another version.
std::size_t constants_in_the_key(Pass pass, const std::vector<KeyPart>& parts) {
  const Request request = ask(parse("n1c8h14w14k7"), 1, pass);
  const tuner::Question q = pass == Pass::weight_gradient ? weight_question(request, {}) : question(request);
  const std::string version = key_version(isa, parts);
  EXPECT_NE(q.key.json().find('"' + version + '"'), std::string::npos) << name(pass);
  std::set<std::string> seen{version};
  std::size_t changes = 0;
  for (std::size_t p = 0; p < parts.size(); p++)
    for (std::size_t i = 0; i < parts[p].constants.size(); i++, changes++) {
      std::vector<std::int32_t> values(parts[p].constants.begin(), parts[p].constants.end());
      values[i]++;
      std::vector<KeyPart> changed = parts;
      changed[p].constants = values;
      seen.insert(key_version(isa, changed));
    }
  EXPECT_EQ(seen.size(), changes + 1) << name(pass);
  return changes;
}

TEST(Choice, WhatWasMeasuredWithAnotherConstantIsNotFound) {
  const std::size_t forward = constants_in_the_key(Pass::forward, key_parts(algorithms()));
  for (const char* name : {"portable", "direct", "row-spectral", "spectral"})
    EXPECT_FALSE(find_algorithm(name)->constants().empty()) << name;
  EXPECT_GT(constants_in_the_key(Pass::weight_gradient, weight_key_parts()), forward);
  for (const WeightAlgorithm* each : weight_algorithms())
    EXPECT_FALSE(each->constants().empty()) << each->name();
}

/// Prediction places it within 1.5 times the best there, and a race may turn that around.
TEST(Choice, SpectralIsOfferedForStripesInEitherDirection) {
  if (isa == Isa::portable) GTEST_SKIP() << "no code can be generated, so there is portable alone";
  for (const char* shape : {"n1c128h56w56k51x5", "n1c128h56w56k5x51"}) {
    double best = 1, spectral = 1;
    for (const tuner::Candidate& each : question(ask(parse(shape), 1)).candidates()) {
      best = std::min(best, each.predicted_seconds);
      if (each.text.starts_with("spectral ")) spectral = std::min(spectral, each.predicted_seconds);
    }
    EXPECT_LT(spectral, 1) << shape;
    if (isa == Isa::avx512) {
      EXPECT_LT(spectral, 1.5 * best) << shape;
    }
  }
}

/// A network's choice is another than the warm one's, whose records stand in for it until it is measured.
TEST(Choice, AColdChoiceHasAKeyOfItsOwnAndTheWarmOneForKin) {
  const Request warm = ask(parse("n1c8h14w14k7"), 1);
  Request cold = warm;
  cold.cold = true;
  const tuner::Question q = question(cold);
  EXPECT_EQ(q.key.shape, "n1c8h14w14k7 cold");
  EXPECT_NE(q.key.json(), question(warm).key.json());
  ASSERT_TRUE(q.kin);
  EXPECT_EQ(q.kin->json(), question(warm).key.json());
  EXPECT_FALSE(question(warm).kin);
  EXPECT_FALSE(question(warm).runner.before) << "runs of a warm race follow each other";
  const std::string pick = q.candidates().front().text;
  ASSERT_TRUE(q.runner.verify(pick));
  q.runner.before(pick);
  q.runner.run(pick);
  EXPECT_TRUE(q.runner.verify(pick)) << "the input is as it was";
}

TEST(Choice, ThreadsArePartOfATiling) {
  const Problem problem = parse("n1c8h7w7k3");
  const std::optional<Choice> one = read_choice("portable threads=1", ask(problem, 4));
  ASSERT_TRUE(one);
  EXPECT_EQ(one->threads, 1);
  EXPECT_EQ(one->variant->text(), "portable");
  EXPECT_EQ(one->spelled(4).to_string(), "portable threads=1");
  EXPECT_EQ(one->spelled(1).to_string(), "portable");

  const std::vector<float> weights(8 * 9, 1.0f), bias(8);
  const std::vector<std::span<const float>> spans{weights};
  PlanOptions options;
  options.threads = 4;
  for (const auto& [tiling, threads] : {std::pair("portable threads=2", 2), std::pair("portable", 4)}) {
    options.tiling = Tiling::parse(tiling);
    const Plan plan(problem, spans, bias, options);
    EXPECT_EQ(plan.threads(), threads) << "forced, and so not asked whether the work feeds them";
    EXPECT_EQ(plan.tiling().to_string(), tiling) << "what is printed can be forced again";
  }
}

/// Predicted, of the best candidate on one thread.
double seconds_on_one(const Problem& problem) {
  double best = 1;
  for (const tuner::Candidate& each : question(ask(problem, 1)).candidates())
    best = std::min(best, each.predicted_seconds);
  return best;
}

TEST(Choice, NoThreadIsWokenForLessThanASmallestTask) {
  for (const char* shape : {"n1c16h7w7k3", "n1c96h7w7k7", "n1c384h14w14k5", "n1c1024h7w7k13",
                            "n1c128h56w56k31", "n1c16h7w7k3exact", "n1c384h14w14k5exact"})
    for (const int threads : {1, 2, 8, 64}) {
      const Problem problem = parse(shape);
      const double work = seconds_on_one(problem);
      std::set<int> used;
      for (const std::string& text : texts(question(ask(problem, threads))))
        used.insert(Tiling::parse(text).number("threads", threads));
      if (work < 500e-6) {
        EXPECT_EQ(*used.begin(), 1) << shape << ": one is tried too";
      }
      EXPECT_EQ(*used.rbegin(), useful_threads(threads, work)) << shape << " on " << threads;
      for (const int each : used) {
        if (each > 1) {
          EXPECT_GE(work / each, team_seconds) << shape << " on " << threads;
        }
      }
    }
}

TEST(Choice, ThreadsAreUsefulFromASmallestTaskOn) {
  EXPECT_EQ(useful_threads(64, 0), 1);
  EXPECT_EQ(useful_threads(64, 1.99 * team_seconds), 1);
  EXPECT_EQ(useful_threads(64, 2.01 * team_seconds), 2);
  EXPECT_EQ(useful_threads(2, 10 * team_seconds), 2);
  EXPECT_EQ(useful_threads(64, 63.5 * team_seconds), 63);
  EXPECT_EQ(useful_threads(64, std::numeric_limits<double>::infinity()), 64);
}

/// A plan for 64 threads on few of them, on one and on all: the same bits, in a workspace for those it has.
TEST(Choice, APlanUsesTheThreadsThatItsWorkFeeds) {
  const auto plan_of = [](const Problem& problem, const char* tiling) {
    std::vector<float> weights(static_cast<std::size_t>(problem.channels) *
                               static_cast<std::size_t>(problem.branches[0].taps()));
    for (std::size_t i = 0; i < weights.size(); ++i) weights[i] = std::sin(static_cast<float>(i));
    const std::vector<std::span<const float>> spans{weights};
    PlanOptions options;
    options.threads = 64;
    if (tiling) options.tiling = Tiling::parse(tiling);
    return Plan(problem, spans, std::vector<float>(static_cast<std::size_t>(problem.channels)), options);
  };
  const auto run = [](const Plan& plan) {
    EXPECT_EQ(plan.workspace_bytes(), plan.executor().workspace_bytes(plan.threads()));
    std::vector<float> x(static_cast<std::size_t>(plan.problem().input_elements())), y(x.size());
    for (std::size_t i = 0; i < x.size(); ++i) x[i] = 1 + std::cos(static_cast<float>(i * i % 977));
    core::Buffer<std::byte> workspace(plan.workspace_bytes());
    plan.run({x.data(), y.data()}, workspace.data());
    return y;
  };
  for (const char* shape : {"n1c16h7w7k3", "n1c384h14w14k5", "n1c1024h7w7k13"}) {
    const Problem problem = parse(shape);
    const Plan plan = plan_of(problem, nullptr);
    EXPECT_LE(plan.threads(), useful_threads(64, seconds_on_one(problem))) << shape;
    if (isa != Isa::portable) {
      EXPECT_LT(plan.threads(), 16) << shape;
    }
    Tiling tiling = plan.tiling();
    const std::vector<float> expected = run(plan);
    for (const int threads : {1, 3, 64}) {
      const Plan forced = plan_of(problem, tiling.set("threads", threads).to_string().c_str());
      EXPECT_EQ(forced.threads(), threads);
      EXPECT_EQ(run(forced), expected) << shape << " on " << threads;
    }
  }
  EXPECT_EQ(plan_of(parse("n1c16h7w7k3"), nullptr).threads(), 1);
  EXPECT_EQ(plan_of(parse("n1c128h56w56k31"), nullptr).threads(), 64);
}

/// A record of a near shape says what that shape's work fed.
TEST(Choice, WhatAnotherShapeUsedIsCutToWhatIsFed) {
  const Request request = ask(parse("n1c384h14w14k5"), 64);
  for (const tuner::Candidate& each : question(ask(request.problem, 1)).candidates()) {
    std::optional<Choice> all = read_choice(each.text, request);
    ASSERT_TRUE(all) << each.text;
    EXPECT_EQ(all->threads, 64);
    all->source = "near(n8c384h14w14k5)";
    const Choice cut = fed(*std::move(all), request);
    EXPECT_EQ(cut.threads, useful_threads(64, each.predicted_seconds)) << each.text;
    EXPECT_EQ(cut.variant->text(), each.text);
    EXPECT_EQ(cut.source, "near(n8c384h14w14k5)");
    EXPECT_EQ(fed(cut, request).threads, cut.threads);
  }
}

TEST(Choice, AWeightGradientWakesNoThreadForLessEither) {
  for (const std::string& text :
       texts(weight_question(ask(parse("n1c16h7w7k3"), 64, Pass::weight_gradient), {})))
    EXPECT_TRUE(text.ends_with(" threads=1")) << text;
  const std::vector<std::string> large =
      texts(weight_question(ask(parse("n8c128h56w56k31"), 64, Pass::weight_gradient), {}));
  EXPECT_TRUE(std::ranges::any_of(
      large, [](const std::string& text) { return text.find("threads=") == std::string::npos; }));
}

/// On a CPU that splits vectors of 512 bits both widths are raced; on any with AVX-512 either can be forced.
TEST(Choice, TheNarrowerVectorIsPartOfATiling) {
  const Problem problem = parse("n1c40h14w15k13+relu");
  const Request request = ask(problem, 2);
  const std::vector<tuner::Candidate> narrower = narrower_candidates(request, {}, 1e-3, 2);
  if (isa != Isa::avx512) {
    EXPECT_TRUE(narrower.empty());
    EXPECT_FALSE(read_choice("direct vector=256", request));
    return;
  }
  for (const char* name : {"direct", "row-spectral", "spectral"}) {
    const auto first = std::ranges::find_if(narrower, [&](const tuner::Candidate& each) {
      return each.text.starts_with(std::string(name) + " ");
    });
    ASSERT_NE(first, narrower.end()) << name;
    EXPECT_GE(first->predicted_seconds, 1e-3) << "wins where nothing was measured";
    const std::optional<Choice> choice = read_choice(first->text, request);
    ASSERT_TRUE(choice) << first->text;
    EXPECT_TRUE(choice->vector_256);
    EXPECT_EQ(choice->spelled(2).to_string(), first->text);
    const tuner::Candidate unbounded = narrower_candidates(request, name, 0, 2).front();
    EXPECT_DOUBLE_EQ(read_choice(unbounded.text, request)->predict(request), unbounded.predicted_seconds);
    EXPECT_TRUE(Trial(request).verify(first->text)) << first->text;

    // The bits of AVX2's code.
    std::vector<float> weights(40 * 169), bias(40), x(40 * 14 * 15), y(x.size()), expected(x.size());
    for (std::size_t i = 0; i < weights.size(); ++i) weights[i] = std::sin(static_cast<float>(i));
    for (std::size_t i = 0; i < x.size(); ++i) x[i] = 1 + std::cos(static_cast<float>(i * i % 977));
    const std::vector<std::span<const float>> spans{weights};
    const auto run = [&](const std::string& tiling, std::optional<Isa> narrow, std::vector<float>& to) {
      PlanOptions options;
      options.threads = 2;
      options.isa = narrow;
      options.tiling = Tiling::parse(tiling);
      const Plan plan(problem, spans, bias, options);
      EXPECT_EQ(plan.tiling().to_string(), tiling);
      core::Buffer<std::byte> workspace(plan.workspace_bytes());
      plan.run({x.data(), to.data()}, workspace.data());
    };
    run(first->text, {}, y);
    std::string plain = first->text;
    plain.erase(plain.find(" vector=256"), 11);
    run(plain, Isa::avx2, expected);
    EXPECT_EQ(y, expected) << first->text;
  }
  for (const char* value : {"512", "128", "0", "x"}) {
    const std::string plain = narrower.front().text;
    const std::string text = plain.substr(0, plain.find("256")) + value;
    EXPECT_FALSE(read_choice(text, request)) << text;
  }
}

/// Work that waits for memory too: each core fetches its own. What is predicted to gain nothing is not raced.
TEST(Choice, AllThreadsArePredictedFasterThanOneOnALargeMap) {
  if (isa == Isa::portable) GTEST_SKIP() << "no code can be generated, so there is portable alone";
  const Problem problem = parse("n1c128h112w112k3+relu");
  const auto best = [&](int threads) {
    double seconds = 1;
    for (const tuner::Candidate& each : question(ask(problem, threads), "direct").candidates())
      if (each.text.find("threads=") == std::string::npos)
        seconds = std::min(seconds, each.predicted_seconds);
    return seconds;
  };
  EXPECT_LT(best(2), 0.7 * best(1));
  EXPECT_LT(best(4), 0.7 * best(2));
}

TEST(Choice, LinesFromOutsideAreTrustedInNothing) {
  const Problem problem = parse("n1c40h14w14k13"), exact = parse("n1c40h14w14k13exact");
  std::vector<std::string> hostile{"",
                                   "unknown n=1",
                                   "portable tile=2147483648",
                                   "portable threads=0",
                                   "portable threads=5",
                                   "portable threads=-1",
                                   "portable threads=99999999999999999999",
                                   "portable threads=1 threads=1",
                                   "portable\n",
                                   std::string(5000, 'a')};
  for (const std::string& text : texts(question(ask(problem, 1)))) {
    if (text == "portable") continue;
    hostile.push_back(text + " more=1");
    for (std::size_t at = text.find('='); at != std::string::npos; at = text.find('=', at + 1)) {
      const std::string tail = text.substr(std::min(text.find(' ', at), text.size()));
      for (const char* value : {"2147483648", "-1", "99999999999999", "x", ""})
        hostile.push_back(text.substr(0, at + 1) + value + tail);
    }
    const std::size_t first = text.find(' '),
                      second = text.find(' ', first + 1);  // a field that none may lack
    hostile.push_back(text.substr(0, first) + (second == std::string::npos ? "" : text.substr(second)));
    if (hostile.size() > 2000) break;
  }
  for (const std::string& line : hostile) EXPECT_FALSE(read_choice(line, ask(problem, 4))) << line;
  for (const std::string& text : texts(question(ask(problem, 1)))) {
    const Algorithm* algorithm = find_algorithm(Tiling::parse(text).algorithm);
    EXPECT_EQ(read_choice(text, ask(exact, 1)).has_value(), algorithm->exact()) << text;
  }
}

TEST(Choice, KeysDifferWhereverTheChoiceMay) {
  const auto key = [](const char* shape, int threads = 1, std::optional<std::string> only = {},
                      Pass pass = Pass::forward) {
    return question(ask(parse(shape), threads, pass), only).key.json();
  };
  const std::vector<std::string> keys{key("n1c8h14w14k5"),
                                      key("n2c8h14w14k5"),
                                      key("n1c16h14w14k5"),
                                      key("n1c8h15w14k5"),
                                      key("n1c8h14w15k5"),
                                      key("n1c8h14w14k5x3"),
                                      key("n1c8h14w14k5s2"),
                                      key("n1c8h14w14k5p1"),
                                      key("n1c8h14w14k5nchw"),
                                      key("n1c8h14w14k5bf16"),
                                      key("n1c8h14w14k5fp16"),
                                      key("n1c8h14w14k5exact"),
                                      key("n1c8h14w14k5+relu"),
                                      key("n1c8h14w14k5+residual"),
                                      key("n1c8h14w14k5,3x3"),
                                      key("n1c8h14w14k3d2"),
                                      key("n1c8h14w14k5", 2),
                                      key("n1c8h14w14k5", 1, "portable"),
                                      key("n1c8h14w14k5", 1, {}, Pass::input_gradient),
                                      key("n1c8h14w14k5", 1, {}, Pass::weight_gradient)};
  for (std::size_t i = 0; i < keys.size(); i++)
    for (std::size_t j = 0; j < i; j++) EXPECT_NE(keys[i], keys[j]);
  // What was measured before passes had names still counts.
  EXPECT_EQ(keys[0].find(R"({"op":"depthwise","numerics":"fast",)"), 0) << keys[0];
}

/// An algorithm of the forward pass answers no other.
TEST(Choice, AnotherPassHasNoForwardTilings) {
  const Problem problem = parse("n1c16h14w14k5");
  for (const Pass pass : {Pass::input_gradient, Pass::weight_gradient}) {
    EXPECT_FALSE(read_choice("portable", ask(problem, 1, pass)));
    for (const Algorithm* algorithm : algorithms())
      if (algorithm->pass() == Pass::forward) {
        EXPECT_TRUE(algorithm->candidates(ask(problem, 1, pass)).empty()) << algorithm->name();
      }
  }
  EXPECT_TRUE(read_choice("portable", ask(problem, 1)));
}

TEST(Trial, AcceptsRightResultsAndTheTunerRemembersThePick) {
  char name[] = "/tmp/replk-choice-XXXXXX";
  ASSERT_NE(mkdtemp(name), nullptr);
  tuner::Cache cache(std::string(name) + "/tune.jsonl", {});
  tuner::Settings settings;
  settings.mode = tuner::Mode::now;
  settings.budget_seconds = 0.05;
  for (const char* shape : {"n1c24h9w9k5", "n2c9h8w7k3s2+gelu+residual", "n1c24h9w9k5nchw", "n1c16h8w8k7bf16",
                            "n1c16h12w12k11x3,3x11", "n1c24h9w9k5exact"}) {
    const Problem problem = parse(shape);
    const tuner::Question q = question(ask(problem, 2));
    const tuner::Choice first = tuner::choose(q, settings, cache);
    EXPECT_EQ(first.source, "measured") << shape;
    for (std::size_t i = 0; i < first.raced.size(); i++)
      EXPECT_NE(first.standings[i].fate, tuner::Standing::wrong) << shape << ": " << first.raced[i].text;
    const tuner::Choice second = tuner::choose(q, settings, cache);
    EXPECT_EQ(second.source, "cache") << shape;
    EXPECT_EQ(second.text, first.text) << shape;
  }
  std::filesystem::remove_all(name);
}

/// The chain of class exact is what an algorithm of class fast must not do: on the data of the race it shows.
TEST(Trial, ShowsTheErrorOfALongChain) {
  for (const char* shape : {"n1c8h31w31k31", "n1c1h63w63k63p0nobias", "n1c8h31w31k31p0+relu"}) {
    Problem problem = parse(shape);
    EXPECT_LE(Trial(ask(problem, 1)).error_of_bound("portable"), 1) << shape;
    problem.numerics = Numerics::exact;
    EXPECT_GT(Trial(ask(problem, 1)).error_of_bound("portable"), 1) << shape;
    EXPECT_TRUE(Trial(ask(problem, 1)).verify("portable")) << shape;
  }
}

TEST(Trial, RefusesLinesThatCannotComputeTheProblem) {
  const Problem problem = parse("n1c8h8w8k3");
  Trial trial(ask(problem, 1));
  EXPECT_TRUE(trial.verify("portable"));
  EXPECT_FALSE(trial.verify("portable tile=3"));
  EXPECT_FALSE(trial.verify("nothing"));
}

}  // namespace
}  // namespace replk::depthwise
