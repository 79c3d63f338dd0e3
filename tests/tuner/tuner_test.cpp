#include "tuner/tuner.hpp"

#include <gtest/gtest.h>

#include "core/error.hpp"
#include "invented.hpp"
#include "scratch.hpp"

namespace replk::tuner {
namespace {

using test::InventedMachine;
using test::Scratch;

Key key(int channels, int kernel, const char* numerics = "fast") {
  return {"c" + std::to_string(channels) + "k" + std::to_string(kernel),
          {word("op", "test"), word("numerics", numerics), number("channels", channels, 0.25),
           number("kernel", kernel)}};
}

bool any(const std::string&) {
  return true;
}

class Tuner : public ::testing::Test {
 protected:
  Choice pick(const Key& k, Mode mode, const std::function<bool(const std::string&)>& legal = any) {
    Settings settings;
    settings.mode = mode;
    settings.budget_seconds = 100;
    Cache cache(scratch.path("tune.jsonl"), {});
    return choose({k, [&] { return candidates; }, legal, machine.runner()}, settings, cache, machine.clock());
  }

  Scratch scratch;
  InventedMachine machine{1};
  // The model is wrong: b is the fastest.
  std::vector<Candidate> candidates{{"x a=1", 1e-3, 0}, {"x b=1", 2e-3, 0}, {"y c=1", 3e-3, 1}};
  void SetUp() override { machine.cost = {{"x a=1", 1.5e-3}, {"x b=1", 1e-3}, {"y c=1", 2e-3}}; }
};

TEST_F(Tuner, OffTakesTheBestPredictedAndRunsNothing) {
  const Choice choice = pick(key(64, 7), Mode::off);
  EXPECT_EQ(choice.text, "x a=1");
  EXPECT_EQ(choice.source, "analytic");
  EXPECT_TRUE(machine.runs.empty());
}

TEST_F(Tuner, CachedWithoutACacheIsAnalyticAndLeavesNoFile) {
  EXPECT_EQ(pick(key(64, 7), Mode::cached).source, "analytic");
  EXPECT_TRUE(scratch.empty());
}

TEST_F(Tuner, NowMeasuresOnceAndRemembers) {
  const Choice first = pick(key(64, 7), Mode::now);
  EXPECT_EQ(first.text, "x b=1");
  EXPECT_EQ(first.source, "measured");
  EXPECT_EQ(first.raced.size(), 3u);
  machine.runs.clear();
  for (Mode mode : {Mode::cached, Mode::now}) {
    const Choice second = pick(key(64, 7), mode);
    EXPECT_EQ(second.text, "x b=1");
    EXPECT_EQ(second.source, "cache");
    EXPECT_NEAR(second.seconds, 1e-3, 1e-4);
  }
  EXPECT_TRUE(machine.runs.empty());
}

TEST_F(Tuner, AnyDifferenceIsAMiss) {
  pick(key(64, 7), Mode::now);
  EXPECT_EQ(pick(key(64, 7, "exact"), Mode::cached).source, "analytic");
  EXPECT_EQ(pick(key(64, 31), Mode::cached).source, "analytic");
  Key longer = key(64, 7);
  longer.fields.push_back(word("more", "1"));
  EXPECT_EQ(pick(longer, Mode::cached).source, "analytic");
}

TEST_F(Tuner, AMissTakesANearPickWhereItIsLegalAndSaysSo) {
  pick(key(64, 7), Mode::now);
  const Choice near = pick(key(128, 7), Mode::cached);
  EXPECT_EQ(near.text, "x b=1");
  EXPECT_EQ(near.source, "near(c64k7)");
  const Choice illegal =
      pick(key(128, 7), Mode::cached, [](const std::string& text) { return text != "x b=1"; });
  EXPECT_EQ(illegal.source, "analytic");
}

TEST_F(Tuner, ARecordOfItsKinServesAndRacesWhereItHasNone) {
  const auto cold = [&](Mode mode, int channels) {
    Key own = key(channels, 7);
    own.fields.push_back(word("caches", "cold"));
    Question question{own, [&] { return candidates; }, any, machine.cold_runner()};
    question.kin = key(channels, 7);
    Settings settings;
    settings.mode = mode;
    settings.budget_seconds = 100;
    Cache cache(scratch.path("tune.jsonl"), {});
    return choose(question, settings, cache, machine.clock());
  };
  EXPECT_EQ(cold(Mode::cached, 64).source, "analytic");
  pick(key(64, 7), Mode::now);
  EXPECT_EQ(cold(Mode::cached, 64).text, "x b=1");
  EXPECT_EQ(cold(Mode::cached, 64).source, "near(c64k7)");
  EXPECT_EQ(cold(Mode::cached, 96).source, "near(c64k7)");
  machine.cold = {{"x b=1", 5e-3}};
  candidates.erase(candidates.begin() + 1);  // what its kin has picked is in the race all the same
  const Choice raced = cold(Mode::now, 64);
  EXPECT_EQ(raced.raced.size(), 3u);
  EXPECT_EQ(raced.text, "x a=1");
  EXPECT_EQ(cold(Mode::cached, 64).source, "cache");
  EXPECT_EQ(pick(key(64, 7), Mode::cached).text, "x b=1") << "the warm record stays";
}

TEST_F(Tuner, AnIllegalRecordIsNotUsed) {
  pick(key(64, 7), Mode::now);
  const Choice choice =
      pick(key(64, 7), Mode::cached, [](const std::string& text) { return text != "x b=1"; });
  EXPECT_EQ(choice.text, "x a=1");
  EXPECT_EQ(choice.source, "analytic");
}

TEST_F(Tuner, ATaintedRaceDoesNotReplaceACleanRecord) {
  pick(key(64, 7), Mode::now);
  machine.calibration_noise = 0.5;
  machine.cost["y c=1"] = 1e-4;
  Settings settings;
  settings.mode = Mode::now;
  settings.again = true;
  Cache cache(scratch.path("tune.jsonl"), {});
  const Choice choice = choose({key(64, 7), [&] { return candidates; }, any, machine.runner()}, settings,
                               cache, machine.clock());
  EXPECT_TRUE(choice.tainted);
  EXPECT_EQ(choice.text, "y c=1");
  EXPECT_EQ(pick(key(64, 7), Mode::cached).text, "x b=1");
}

TEST_F(Tuner, NothingThatRunsGivesTheAnalyticChoiceAndNoRecord) {
  machine.wrong = {"x a=1", "x b=1", "y c=1"};
  EXPECT_EQ(pick(key(64, 7), Mode::now).source, "analytic");
  EXPECT_TRUE(scratch.empty());
}

TEST_F(Tuner, NoCandidatesIsAnError) {
  candidates.clear();
  EXPECT_THROW(pick(key(64, 7), Mode::off), core::Error);
}

TEST_F(Tuner, TenTuningsFromNothingAgree) {
  machine.noise = 0.02;
  machine.spike = 0.05;
  for (int i = 0; i < 10; i++) {
    Scratch own;
    Cache cache(own.path("tune.jsonl"), {});
    Settings settings;
    settings.mode = Mode::now;
    EXPECT_EQ(choose({key(64, 7), [&] { return candidates; }, any, machine.runner()}, settings, cache,
                     machine.clock())
                  .text,
              "x b=1");
  }
}

TEST(Shortlist, NearPicksThenPredictionThenOneOfEveryAlgorithm) {
  std::vector<Candidate> all;
  for (int i = 0; i < 10; i++) all.push_back({"x n=" + std::to_string(i) + " m=1", 1.0 + i * 0.1, 0});
  all.push_back({"y n=1", 3.5, 1});
  all.push_back({"z n=1", 9, 2});
  const auto texts = [](const std::vector<Candidate>& list) {
    std::vector<std::string> t;
    for (const Candidate& each : list) t.push_back(each.text);
    return t;
  };
  EXPECT_EQ(texts(shortlist(all, {}, any, 2)), (std::vector<std::string>{"x n=0 m=1", "x n=1 m=1", "y n=1"}));
  EXPECT_EQ(texts(shortlist(all, {"x n=7 m=1"}, any, 1)),
            (std::vector<std::string>{"x n=7 m=1", "x n=0 m=1", "y n=1"}));
  // An algorithm that is predicted a little slower is tried with several of its tilings.
  std::vector<Candidate> rivals;
  for (int i = 0; i < 20; i++) rivals.push_back({"x n=" + std::to_string(i), 1.0 + i * 0.001, 0});
  for (int i = 0; i < 20; i++) rivals.push_back({"y n=" + std::to_string(i), 1.3 + i * 0.001, 1});
  for (int i = 0; i < 20; i++) rivals.push_back({"z n=" + std::to_string(i), 2 + i * 0.001, 1});
  const std::vector<std::string> tried = texts(shortlist(rivals, {}, any, 8));
  EXPECT_EQ(std::vector<std::string>(tried.begin(), tried.begin() + 4),
            (std::vector<std::string>{"x n=0", "y n=0", "x n=1", "y n=1"}));
  EXPECT_EQ(std::vector<std::string>(tried.begin() + 11, tried.end()),
            (std::vector<std::string>{"y n=5", "x n=6", "x n=7", "z n=0"}));
  // A near pick that is legal but not listed joins; one that is not stands for the candidate most like it.
  EXPECT_EQ(shortlist(all, {"x n=99 m=1"}, any, 1).front().text, "x n=99 m=1");
  const auto listed = [](const std::string& text) { return text != "x n=5 m=2"; };
  EXPECT_EQ(shortlist(all, {"x n=5 m=2"}, listed, 1).front().text, "x n=5 m=1");
}

}  // namespace
}  // namespace replk::tuner
