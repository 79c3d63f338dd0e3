#include "measure/race.hpp"

#include <algorithm>
#include <cmath>
#include <map>
#include <random>

#include "core/clock.hpp"

namespace replk::bench {
namespace {

double time(const std::function<void()>& run, int repeats) {
  const double start = core::seconds();
  for (int i = 0; i < repeats; i++) run();
  return (core::seconds() - start) / repeats;
}

}  // namespace

double Times::median() const {
  return core::median(seconds);
}

std::vector<Times> race(const std::vector<std::function<void()>>& candidates, const RaceOptions& options,
                        const std::vector<int>& parts) {
  std::vector<Times> times(candidates.size());
  std::vector<double> first;
  for (const auto& run : candidates) first.push_back(time(run, 1));
  std::map<int, double> fastest;  // of the rivals of a part
  const auto part = [&](std::size_t i) { return parts.empty() ? 0 : parts[i]; };
  for (std::size_t i = 1; i < candidates.size(); i++) {
    double& least = fastest.try_emplace(part(i), first[i]).first->second;
    least = std::min(least, first[i]);
  }

  std::vector<int> turns(candidates.size(), options.max_rounds);  // ours has them all
  for (std::size_t i = 1; i < candidates.size(); i++) {
    if (first[i] <= options.slow * first[0]) continue;
    const double affordable = options.seconds / 2 / (2 * first[i]);
    turns[i] = first[i] > 2 * fastest[part(i)] ? 0 : static_cast<int>(std::min(affordable, 1.0 * turns[i]));
    if (turns[i] == 0) times[i].seconds.push_back(first[i]);
  }
  std::mt19937_64 random(options.seed);
  const double end = core::seconds() + options.seconds;
  for (int round = 0; round < options.rounds || (round < options.max_rounds && core::seconds() < end);
       round++) {
    std::vector<std::size_t> order;
    for (std::size_t i = 0; i < candidates.size(); i++)
      if (round < turns[i]) order.push_back(i);
    std::shuffle(order.begin(), order.end(), random);
    for (const std::size_t i : order) {
      double warm = time(candidates[i], 1);
      for (double spent = warm; spent < options.warm_seconds; spent += warm) warm = time(candidates[i], 1);
      const int repeats =
          static_cast<int>(std::clamp(std::ceil(options.slot_seconds / std::max(warm, 1e-9)), 1.0, 1e4));
      times[i].seconds.push_back(time(candidates[i], repeats));
    }
  }
  return times;
}

}  // namespace replk::bench
