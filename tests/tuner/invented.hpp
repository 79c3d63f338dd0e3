// A machine with invented costs and an invented clock.
#pragma once
#include <algorithm>
#include <cmath>
#include <map>
#include <random>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

#include "tuner/race.hpp"

namespace replk::tuner::test {

/// Runs advance its time by the candidate's cost, times noise, times what the machine does just then.
class InventedMachine {
 public:
  explicit InventedMachine(std::uint64_t seed) : random_(seed) {}

  double noise = 0.01;  // relative, of every run
  double spike = 0;     // probability of a run that takes ten times as long
  double drift = 0;     // relative amplitude of a slow change of the clock
  double jump = 0;      // relative size of a change of the clock from one run to the next
  double calibration_noise = 0;
  double theft = 0;  // probability of a run during which somebody else has the core for five runs' time
  double place = 0;  // relative spread of what a place in memory does to a candidate's time, until it moves
  std::map<std::string, double> cost;  // seconds
  std::map<std::string, double> cold;  // more, of a run behind cool()
  std::map<std::string, int> runs, verified, released, cooled;
  int moves = 0;
  std::vector<std::string> wrong, throwing;

  Clock clock() {
    return {[this] { return time_; }, [this] { return advance(20e-6, calibration_noise, 0); },
            [this] { return stolen_; }};
  }
  Runner runner() {
    return {[this](const std::string& text) {
              verified[text]++;
              return std::find(wrong.begin(), wrong.end(), text) == wrong.end();
            },
            [this](const std::string& text) {
              if (std::find(throwing.begin(), throwing.end(), text) != throwing.end())
                throw std::runtime_error("no");
              runs[text]++;
              const double luck = std::normal_distribution<double>(0, place)(random_);
              const double seconds = cost.at(text) + (std::exchange(cool_, false) ? cold[text] : 0);
              advance(seconds * (1 + placed_.try_emplace(text, luck).first->second), noise, spike);
              if (std::uniform_real_distribution<double>(0, 1)(random_) < theft) {
                time_ += 5 * cost.at(text);
                stolen_ += 5 * cost.at(text);
              }
            },
            [this](const std::string& text) { released[text]++; },
            [this] {
              moves++;
              placed_.clear();
            }};
  }
  /// Of runs that find cold caches: to make them cold takes longer than they do.
  Runner cold_runner() {
    Runner cold = runner();
    cold.before = [this](const std::string& text) {
      cooled[text]++;
      cool_ = true;
      time_ += 5e-3;
    };
    return cold;
  }
  std::vector<Candidate> candidates() const {
    std::vector<Candidate> all;
    for (const auto& [text, seconds] : cost) all.push_back({text, seconds, 0});
    return all;
  }
  double time() const { return time_; }

 private:
  double advance(double seconds, double relative, double spike_probability) {
    std::uniform_real_distribution<double> uniform(0, 1);
    double factor = 1 + relative * std::abs(std::normal_distribution<double>(0, 1)(random_));
    if (uniform(random_) < spike_probability) factor *= 10;
    factor *= 1 + drift * std::sin(time_ * 3);
    factor *= 1 + jump * uniform(random_);
    time_ += seconds * factor;
    return seconds * factor;
  }
  std::mt19937_64 random_;
  std::map<std::string, double> placed_;
  double time_ = 1000, stolen_ = 0;
  bool cool_ = false;
};

}  // namespace replk::tuner::test
