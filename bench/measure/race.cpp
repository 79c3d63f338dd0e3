#include "bench/measure/race.hpp"

#include <algorithm>
#include <chrono>
#include <cmath>
#include <numeric>
#include <random>

namespace replk::bench {
namespace {

double now() {
  return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

double time(const std::function<void()>& run, int repeats) {
  const double start = now();
  for (int i = 0; i < repeats; i++) run();
  return (now() - start) / repeats;
}

}  // namespace

double Times::median() const {
  std::vector<double> sorted = seconds;
  std::sort(sorted.begin(), sorted.end());
  const std::size_t n = sorted.size();
  return n % 2 ? sorted[n / 2] : (sorted[n / 2 - 1] + sorted[n / 2]) / 2;
}

std::vector<Times> race(const std::vector<std::function<void()>>& candidates, const RaceOptions& options) {
  std::vector<Times> times(candidates.size());
  std::vector<double> first;
  for (const auto& run : candidates) first.push_back(time(run, 1));
  const double best = first.empty() ? 0 : *std::min_element(first.begin(), first.end());
  const double rival = first.size() < 2 ? 0 : *std::min_element(first.begin() + 1, first.end());

  std::vector<int> turns(candidates.size(), options.max_rounds);
  for (std::size_t i = 0; i < candidates.size(); i++) {
    if (first[i] <= options.slow * best) continue;
    times[i].seconds.push_back(first[i]);
    const double affordable = options.seconds / 2 / (2 * first[i]);
    turns[i] = first[i] > 2 * rival ? 0 : std::min(options.slow_turns - 1, static_cast<int>(affordable));
  }
  std::mt19937_64 random(options.seed);
  const double end = now() + options.seconds;
  for (int round = 0; round < options.rounds || (round < options.max_rounds && now() < end); round++) {
    std::vector<std::size_t> order;
    for (std::size_t i = 0; i < candidates.size(); i++)
      if (round < turns[i]) order.push_back(i);
    std::shuffle(order.begin(), order.end(), random);
    for (const std::size_t i : order) {
      const double warm = time(candidates[i], 1);
      const int repeats =
          static_cast<int>(std::clamp(std::ceil(options.slot_seconds / std::max(warm, 1e-9)), 1.0, 1e4));
      times[i].seconds.push_back(time(candidates[i], repeats));
    }
  }
  return times;
}

}  // namespace replk::bench
