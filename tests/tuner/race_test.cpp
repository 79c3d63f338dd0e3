#include "tuner/race.hpp"

#include <gtest/gtest.h>

#include "invented.hpp"

namespace replk::tuner {
namespace {

using test::InventedMachine;

RaceOptions options(InventedMachine& machine, double budget = 100) {
  RaceOptions o;
  o.budget_seconds = budget;
  o.clock = machine.clock();
  return o;
}

RaceResult run(InventedMachine& machine, const std::vector<Candidate>& candidates, double budget = 100) {
  return race(candidates, machine.runner(), options(machine, budget));
}

TEST(Race, FindsTheFastestWhateverTheOrder) {
  for (int place = 0; place < 8; place++) {
    InventedMachine machine(place);
    std::vector<Candidate> candidates;
    for (int i = 0; i < 8; i++) {
      const std::string text = "c" + std::to_string(i);
      machine.cost[text] = i == place ? 1e-3 : 1.04e-3 + 1e-5 * i;
      candidates.push_back({text, 1e-3 * (1 + i), 0});
    }
    const RaceResult result = run(machine, candidates);
    ASSERT_TRUE(result.decided);
    EXPECT_EQ(candidates[result.winner].text, "c" + std::to_string(place));
    EXPECT_GE(result.confidence, 0.95);
    EXPECT_FALSE(result.tainted);
    EXPECT_EQ(result.standings[result.winner].fate, Standing::won);
    EXPECT_NEAR(result.standings[result.winner].seconds, 1e-3, 0.05e-3);
  }
}

TEST(Race, SpikesAndDriftDoNotDecide) {
  int right = 0;
  for (int seed = 0; seed < 200; seed++) {
    InventedMachine machine(seed);
    machine.noise = 0.02;
    machine.spike = 0.1;
    machine.drift = 0.15;
    machine.cost = {{"a", 1.05e-3}, {"b", 1e-3}, {"c", 1.06e-3}, {"d", 1.2e-3}, {"e", 3e-3}};
    const RaceResult result = run(machine, machine.candidates());
    right += result.winner == 1;
  }
  EXPECT_GE(right, 195);
}

TEST(Race, ColdRunsAreTimedOneByOneWithoutWhatMakesThemCold) {
  InventedMachine machine(1);
  machine.cost = {{"fast when warm", 100e-6}, {"fast when cold", 120e-6}};
  machine.cold = {{"fast when warm", 100e-6}, {"fast when cold", 10e-6}};
  const std::vector<Candidate> candidates = machine.candidates();  // in the order of their names
  EXPECT_EQ(candidates[race(candidates, machine.runner(), options(machine)).winner].text, "fast when warm");
  machine.runs.clear();
  const RaceResult result = race(candidates, machine.cold_runner(), options(machine));
  EXPECT_EQ(candidates[result.winner].text, "fast when cold");
  EXPECT_NEAR(result.standings[result.winner].seconds, 130e-6, 10e-6);
  // But for those that only move to other memory, once a place.
  for (const auto& [text, runs] : machine.runs) EXPECT_LE(runs - machine.cooled[text], machine.moves) << text;
  EXPECT_GT(machine.cooled["fast when cold"], 7 * 3) << "short runs are repeated";
}

TEST(Race, EquallyFastOnesGoToTheSimplerOneEveryTime) {
  for (int seed = 0; seed < 50; seed++) {
    InventedMachine machine(seed);
    machine.noise = 0.004;
    machine.cost = {{"a", 1e-3}, {"b", 1.001e-3}, {"c", 1.002e-3}};
    const std::vector<Candidate> candidates{{"a", 1, 2}, {"b", 2, 1}, {"c", 3, 1}};
    EXPECT_EQ(run(machine, candidates).winner, 1u) << "the lower rank, then the better predicted";
  }
}

TEST(Race, TiesOfEqualRankAndPredictionGoByText) {
  for (int seed = 0; seed < 20; seed++) {
    InventedMachine machine(seed);
    machine.noise = 0.002;
    machine.cost = {{"x m=1", 1e-3}, {"x m=2", 1e-3}};
    EXPECT_EQ(run(machine, {{"x m=2", 1, 0}, {"x m=1", 1, 0}}).winner, 1u);
  }
}

TEST(Race, WrongAndThrowingCandidatesNeverWinAndWrongOnesAreNeverTimed) {
  InventedMachine machine(1);
  machine.cost = {{"wrong", 1e-6}, {"throws", 1e-6}, {"right", 1e-3}};
  machine.wrong = {"wrong"};
  machine.throwing = {"throws"};
  const std::vector<Candidate> candidates = machine.candidates();
  const RaceResult result = run(machine, candidates);
  EXPECT_EQ(candidates[result.winner].text, "right");
  EXPECT_EQ(machine.runs.count("wrong"), 0u);
  for (std::size_t i = 0; i < candidates.size(); i++)
    EXPECT_EQ(result.standings[i].fate, i == result.winner ? Standing::won : Standing::wrong);
}

TEST(Race, WithNothingThatRunsNothingIsDecided) {
  InventedMachine machine(1);
  machine.cost = {{"a", 1e-3}, {"b", 1e-3}};
  machine.wrong = {"a", "b"};
  EXPECT_FALSE(run(machine, machine.candidates()).decided);
  EXPECT_FALSE(run(machine, {}).decided);
}

TEST(Race, EveryPreparedCandidateIsReleasedOnce) {
  InventedMachine machine(5);
  for (int i = 0; i < 60; i++) machine.cost["c" + std::to_string(i)] = 1e-4 * (10 + i);
  machine.wrong = {"c3"};
  run(machine, machine.candidates());
  for (const auto& [text, times] : machine.verified) {
    EXPECT_EQ(times, 1) << text;
    EXPECT_EQ(machine.released[text], 1) << text;
  }
}

TEST(Race, KeepsItsBudget) {
  for (double budget : {0.0, 0.004, 0.05, 1.0}) {
    InventedMachine machine(2);
    for (int i = 0; i < 12; i++) machine.cost["c" + std::to_string(i)] = 3e-3;
    const double start = machine.time();
    const RaceResult result = run(machine, machine.candidates(), budget);
    EXPECT_TRUE(result.decided) << "one candidate is always tried";
    // One qualification of three runs and one round's calibrations may be under way when it ends.
    EXPECT_LE(machine.time() - start, budget + 0.011);
  }
}

TEST(Race, SlowCandidatesCostLittle) {
  InventedMachine machine(3);
  machine.cost = {{"fast", 1e-3}, {"good", 1.005e-3}, {"slow", 50e-3}, {"slower", 90e-3}};
  run(machine, {{"fast", 1, 0}, {"good", 2, 0}, {"slow", 3, 0}, {"slower", 4, 0}});
  EXPECT_EQ(machine.runs["slow"], 2);
  EXPECT_EQ(machine.runs["slower"], 2);
  EXPECT_GE(machine.runs["fast"], 7);
}

TEST(Race, TellsHowItGoesFromTheFirstCandidateOn) {
  InventedMachine machine(3);
  machine.cost = {{"a", 1.8e-3}, {"b", 1e-3}, {"c", 1.5e-3}};
  RaceOptions o = options(machine);
  std::vector<std::string> told;
  int rounds = 0;
  o.progress = [&](int n, std::size_t left, const std::string& leader, double seconds) {
    if (n == 0) told.push_back(leader + std::to_string(left));
    EXPECT_NEAR(seconds, leader == "a" ? 1.8e-3 : 1e-3, 0.1e-3);
    rounds = n;
  };
  const RaceResult result = race(machine.candidates(), machine.runner(), o);
  EXPECT_EQ(told, (std::vector<std::string>{"a1", "b2", "b3"}));
  EXPECT_EQ(rounds, result.rounds);
}

TEST(Race, TinyRunsAreRepeatedWithinATiming) {
  InventedMachine machine(4);
  machine.cost = {{"a", 1e-6}, {"b", 1.2e-6}};
  const RaceResult result = run(machine, machine.candidates());
  EXPECT_EQ(result.winner, 0u);
  EXPECT_GE(machine.runs["a"], 45 * result.standings[0].rounds);
  EXPECT_NEAR(result.standings[0].seconds, 1e-6, 0.1e-6);
}

TEST(Race, ALuckyPlaceInMemoryDoesNotDecide) {
  int moving = 0, staying = 0;
  for (int seed = 0; seed < 200; seed++) {
    InventedMachine machine(seed), still(seed);
    machine.cost = still.cost = {{"a", 1.04e-3}, {"b", 1e-3}, {"c", 1.05e-3}};
    machine.place = still.place = 0.03;
    moving += run(machine, machine.candidates()).winner == 1;
    EXPECT_GE(machine.moves, 1);
    Runner runner = still.runner();
    runner.move = nullptr;
    staying += race(still.candidates(), runner, options(still)).winner == 1;
  }
  EXPECT_GE(moving, 185);
  EXPECT_LE(staying, 170);
}

TEST(Race, AMachineThatStaysDisturbedTaintsTheResult) {
  InventedMachine steady(6), disturbed(6);
  steady.cost = disturbed.cost = {{"a", 1e-3}, {"b", 1.01e-3}};
  disturbed.calibration_noise = 0.5;
  EXPECT_FALSE(run(steady, steady.candidates()).tainted);
  EXPECT_TRUE(run(disturbed, disturbed.candidates()).tainted);
}

TEST(Race, ATimingThatLostTheCoreIsTakenAgain) {
  int right = 0, tainted = 0;
  for (int seed = 0; seed < 100; seed++) {
    InventedMachine machine(seed);
    machine.theft = 0.3;
    machine.cost = {{"a", 1.05e-3}, {"b", 1e-3}, {"c", 1.1e-3}};
    const RaceResult result = run(machine, machine.candidates());
    right += result.winner == 1;
    tainted += result.tainted;
  }
  EXPECT_GE(right, 98);
  EXPECT_LE(tainted, 2);
  InventedMachine crowded(1);
  crowded.theft = 1;
  crowded.cost = {{"a", 2e-3}, {"b", 1e-3}};
  EXPECT_TRUE(run(crowded, crowded.candidates()).tainted);
}

TEST(Race, TheSameMachineGivesTheSameRace) {
  const auto once = [] {
    InventedMachine machine(9);
    machine.noise = 0.05;
    machine.spike = 0.05;
    for (int i = 0; i < 30; i++) machine.cost["c" + std::to_string(i)] = 1e-3 * (1 + 0.002 * i);
    const RaceResult result = run(machine, machine.candidates());
    return std::make_tuple(result.winner, result.rounds, machine.time());
  };
  EXPECT_EQ(once(), once());
}

}  // namespace
}  // namespace replk::tuner
