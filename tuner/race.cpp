#include "tuner/race.hpp"

#include <algorithm>
#include <cmath>
#include <exception>
#include <limits>
#include <random>
#include <tuple>

#include "core/clock.hpp"
#include "core/log.hpp"

namespace replk::tuner {
namespace {

// The statistic. Each round times every candidate once, close together, in a random order, and only times of
// one round are compared: a clock that drifts, or a neighbour who comes and goes, moves both sides of a
// ratio. Of the ratios to the leader the median decides, with the sign test's interval (order statistics of
// the ratios): it asks nothing of the distribution, and an interrupt that makes one time ten times longer
// counts like one that makes it 2 % longer. A mean would follow the spike, a minimum would reward the
// candidate with the luckiest round, and the signed-rank test assumes symmetric differences, which times,
// bounded below only, do not have.
//
// Where data and weights come to lie in the caches moves a time by some percent, for each candidate another
// way and for as long as they lie there. Who runs the pick later has yet another place. So the rounds are
// spread over several places, and no candidate that is near is dropped before it has seen five.
constexpr double kTie = 0.01;         // times closer than this are equal
constexpr double kLevel = 0.01;       // of the one-sided test that drops a candidate: needs 7 rounds at least
constexpr double kGross = 1.3;        // slower than this in each of the first three rounds: out at once
constexpr double kUnqualified = 2.0;  // slower than this in the qualifying runs: not raced
constexpr double kDisturbed = 0.03;   // change of the calibration kernel over a round
constexpr double kLeastSeconds = 50e-6;       // a timing shorter than this repeats the run
constexpr double kLeastColdSeconds = 500e-6;  // of runs that find other caches each time, and so vary more
constexpr double kLongSeconds = 20e-3;        // a run longer than this is qualified by one
constexpr double kWarmSeconds = 1e-3;         // untimed runs before a timing
constexpr int kLeastRounds = 7;
constexpr int kRoundsAPlace = 2, kLeastPlaces = 5;
constexpr double kPlaced = 0.1;  // what a place may do to a ratio
constexpr double kMissing = std::numeric_limits<double>::quiet_NaN();

/// P(Binomial(n, 1/2) <= k).
double binomial_at_most(int k, int n) {
  double term = std::pow(0.5, n), sum = 0;
  for (int i = 0; i <= k; i++) {
    sum += term;
    term = term * (n - i) / (i + 1);
  }
  return std::min(sum, 1.0);
}

/// Lower bound of the median of these values at level kLevel; -infinity where they are too few to say.
double surely_above(std::vector<double> values) {
  const int n = static_cast<int>(values.size());
  int k = 0;
  while (k < n && binomial_at_most(k, n) <= kLevel) k++;
  if (k == 0) return -std::numeric_limits<double>::infinity();
  std::nth_element(values.begin(), values.begin() + (k - 1), values.end());
  return values[k - 1];
}

class Race {
 public:
  Race(const std::vector<Candidate>& candidates, const Runner& runner, const RaceOptions& options)
      : candidates_(candidates), runner_(runner), options_(options), random_(options.seed) {
    result_.standings.resize(candidates.size());
    times_.resize(candidates.size());
    repeats_.resize(candidates.size(), 1);
    end_ = now() + options.budget_seconds;
  }

  RaceResult go() {
    qualify();
    while (!left_.empty() && result_.rounds < options_.most_rounds && now() < end_) {
      if (!round()) break;
      drop();
      if (!left_.empty()) tell(left_.size(), leader(), core::median(kept(leader())));
      if (settled()) break;
      if (result_.rounds % kRoundsAPlace == 0) move();
    }
    conclude();
    return result_;
  }

 private:
  double now() const { return options_.clock.now(); }
  Standing& standing(std::size_t i) { return result_.standings[i]; }

  void leave(std::size_t i, Standing::Fate fate) {
    standing(i).fate = fate;
    runner_.release(candidates_[i].text);
  }

  void tell(std::size_t left, std::size_t first, double seconds) {
    if (options_.progress) options_.progress(result_.rounds, left, candidates_[first].text, seconds);
  }

  /// Seconds of one run, or NaN after an exception. A timing during which a thread waited for a core is taken
  /// again, and of three such the shortest counts; the round is then a disturbed one.
  double time(std::size_t i) {
    double shortest = std::numeric_limits<double>::infinity();
    try {
      warm_up(i);
      for (int attempt = 0; attempt < 3; attempt++) {
        const double lost = options_.clock.lost(), seconds = seconds_of_runs(i);
        shortest = std::min(shortest, seconds / repeats_[i]);
        if (options_.clock.lost() - lost <= kDisturbed * seconds) return seconds / repeats_[i];
      }
    } catch (const std::exception& error) {
      core::log(core::LogLevel::info, "tuner: '{}' cannot run: {}", candidates_[i].text, error.what());
      return kMissing;
    }
    lost_core_ = true;
    return shortest;
  }

  /// Of all runs of a timing, without what is done before them.
  double seconds_of_runs(std::size_t i) {
    const std::string& text = candidates_[i].text;
    double seconds = 0;
    for (int n = 0; n < repeats_[i];) {
      if (runner_.before) runner_.before(text);
      const double start = now();
      do runner_.run(text);
      while (++n < repeats_[i] && !runner_.before);
      seconds += now() - start;
    }
    return seconds;
  }

  /// So that each meets its own data in the caches, not what its rival left there. Once is not enough: a
  /// cache learns from several runs what is worth keeping.
  void warm_up(std::size_t i) {
    const double expected = standing(i).seconds;
    if (runner_.before || expected == 0 || expected > kLongSeconds) return;
    for (double spent = 0; spent < kWarmSeconds; spent += expected) runner_.run(candidates_[i].text);
  }

  bool verified(std::size_t i) {
    try {
      if (runner_.verify(candidates_[i].text)) return true;
      core::log(core::LogLevel::warning, "tuner: '{}' gives a wrong result and is left out",
                candidates_[i].text);
    } catch (const std::exception& error) {
      core::log(core::LogLevel::info, "tuner: '{}' cannot be prepared: {}", candidates_[i].text,
                error.what());
    }
    return false;
  }

  /// A candidate's first times: one to warm up and to learn how often to repeat, then more, and the best of
  /// them. A long run is not repeated where it is not far behind; one that is far behind gets more chances
  /// while they cost little, because a neighbour who takes a core for a moment must not decide. NaN where it
  /// fails.
  double qualifying_time(std::size_t i, double best) {
    double seconds = time(i);
    if (std::isnan(seconds)) return seconds;
    const double least = runner_.before ? kLeastColdSeconds : kLeastSeconds;
    if (seconds < least)
      repeats_[i] = static_cast<int>(std::clamp(std::ceil(least / std::max(seconds, 1e-9)), 1.0, 1e4));
    if (seconds > kLongSeconds && seconds < kUnqualified * best) return seconds;
    seconds = std::min(seconds, time(i));
    if (seconds < kUnqualified * best) return std::min(seconds, time(i));
    const double patience = now() + kLongSeconds;
    for (int chance = 0; chance < 4 && seconds > kUnqualified * best && now() + seconds < patience; chance++)
      seconds = std::min(seconds, time(i));
    return seconds;
  }

  void qualify() {
    std::vector<std::pair<double, std::size_t>> in;  // qualifying time, candidate
    double best = std::numeric_limits<double>::infinity();
    for (std::size_t i = 0; i < candidates_.size(); i++) {
      // A thinning of a large field may use half the budget; a small one is simply tried.
      const double limit = i < options_.field ? end_ : end_ - options_.budget_seconds / 2;
      if (!in.empty() && now() >= limit) break;
      if (!verified(i)) {
        leave(i, Standing::wrong);
        continue;
      }
      const double seconds = qualifying_time(i, best);
      if (std::isnan(seconds)) {
        leave(i, Standing::wrong);
        continue;
      }
      standing(i).seconds = seconds;
      best = std::min(best, seconds);
      in.emplace_back(seconds, i);
      std::sort(in.begin(), in.end());
      while (in.size() > options_.field || in.back().first > kUnqualified * best) {
        leave(in.back().second, Standing::unqualified);
        in.pop_back();
      }
      tell(in.size(), in.front().second, in.front().first);
    }
    for (const auto& [seconds, i] : in) left_.push_back(i);
    std::sort(left_.begin(), left_.end());  // predicted order for the first round
  }

  /// One round over all that are left. A disturbed one is repeated, twice at most, and then counted as it is.
  /// False where the budget ended before the round did.
  bool round() {
    for (int attempt = 0;; attempt++) {
      lost_core_ = false;
      const double before = options_.clock.calibrate();
      std::vector<double> seconds(candidates_.size(), kMissing);
      std::vector<std::size_t> order = left_;
      if (result_.rounds > 0) std::shuffle(order.begin(), order.end(), random_);
      for (std::size_t i : order) {
        if (now() >= end_) return false;
        seconds[i] = time(i);
      }
      const double after = options_.clock.calibrate();
      const bool disturbed = std::abs(after - before) > kDisturbed * std::min(after, before);
      if (disturbed && attempt < 2) continue;
      if (disturbed || lost_core_) disturbed_rounds_++;
      std::erase_if(left_, [&](std::size_t i) {
        if (!std::isnan(seconds[i])) return false;
        leave(i, Standing::wrong);
        return true;
      });
      for (std::size_t i = 0; i < candidates_.size(); i++) times_[i].push_back(seconds[i]);
      result_.rounds++;
      return true;
    }
  }

  /// All that are left go to other memory, and are run there once before they are timed; not where this
  /// would, by the last time, take more than what is left of the budget.
  void move() {
    const double start = now();
    if (!runner_.move || left_.size() < 2 || start + move_seconds_ >= end_) return;
    try {
      runner_.move();
      for (std::size_t i : left_)
        if (now() < end_) runner_.run(candidates_[i].text);
    } catch (const std::exception& error) {  // one that cannot run says so again when it is timed
      core::log(core::LogLevel::info, "tuner: moved data: {}", error.what());
    }
    places_++;
    move_seconds_ = now() - start;
  }

  bool seen_enough_places() const { return !runner_.move || places_ >= kLeastPlaces; }

  std::vector<double> kept(std::size_t i) const {
    std::vector<double> values = times_[i];
    std::erase_if(values, [](double v) { return std::isnan(v); });
    return values;
  }

  /// Times of a over times of b, over the rounds that have both.
  std::vector<double> ratios(std::size_t a, std::size_t b) const {
    std::vector<double> values;
    for (std::size_t r = 0; r < times_[a].size(); r++)
      if (!std::isnan(times_[a][r]) && !std::isnan(times_[b][r]))
        values.push_back(times_[a][r] / times_[b][r]);
    return values;
  }

  /// All that are left have run in the same rounds, so their plain medians compare.
  std::size_t leader() const {
    return *std::min_element(left_.begin(), left_.end(), [&](std::size_t a, std::size_t b) {
      return core::median(kept(a)) < core::median(kept(b));
    });
  }

  void drop() {
    if (left_.empty()) return;
    const std::size_t first = leader();
    const double near = 1 + (seen_enough_places() ? kTie : kPlaced);
    std::erase_if(left_, [&](std::size_t i) {
      if (i == first) return false;
      const std::vector<double> behind = ratios(i, first);
      const bool gross = result_.rounds >= 3 &&
                         std::all_of(behind.begin(), behind.end(), [](double r) { return r > kGross; });
      if (!gross && surely_above(behind) <= near) return false;
      leave(i, Standing::slower);
      return true;
    });
  }

  /// The simplest of those within a tie of the leader; among equally simple ones the better predicted, then
  /// text order.
  std::size_t pick() const {
    const std::size_t first = leader();
    std::size_t best = first;
    for (std::size_t i : left_) {
      if (core::median(ratios(i, first)) > 1 + kTie) continue;
      const Candidate &a = candidates_[i], &b = candidates_[best];
      if (std::tie(a.rank, a.predicted_seconds, a.text) < std::tie(b.rank, b.predicted_seconds, b.text))
        best = i;
    }
    return best;
  }

  bool settled() const {
    if (left_.size() < 2) return result_.rounds >= kLeastRounds || left_.empty();
    if (result_.rounds < kLeastRounds || !seen_enough_places()) return false;
    const std::size_t best = pick();
    return std::all_of(left_.begin(), left_.end(),
                       [&](std::size_t i) { return i == best || surely_above(ratios(i, best)) > 1 - kTie; });
  }

  void conclude() {
    // Without a whole round the qualifying times decide.
    if (result_.rounds == 0) {
      for (std::size_t i : left_) times_[i].assign(1, standing(i).seconds);
    }
    if (left_.empty()) return;
    result_.decided = true;
    result_.winner = pick();
    result_.tainted = 2 * disturbed_rounds_ > result_.rounds;
    result_.confidence = 1 - kLevel;
    for (std::size_t i : left_) {
      if (i == result_.winner) continue;
      const std::vector<double> ahead = ratios(result_.winner, i);
      const int n = static_cast<int>(ahead.size());
      const int within = static_cast<int>(
          std::count_if(ahead.begin(), ahead.end(), [](double ratio) { return ratio <= 1 + kTie; }));
      result_.confidence = std::min(result_.confidence, binomial_at_most(within - 1, n));
    }
    for (std::size_t i = 0; i < candidates_.size(); i++) {
      const std::vector<double> own = kept(i);
      standing(i).rounds = result_.rounds == 0 ? 0 : static_cast<int>(own.size());
      if (!own.empty()) standing(i).seconds = core::median(own);
    }
    for (std::size_t i = 0; i < candidates_.size(); i++) {
      const std::vector<double> paired = ratios(i, result_.winner);
      standing(i).ratio =
          paired.empty() ? standing(i).seconds / standing(result_.winner).seconds : core::median(paired);
    }
    for (std::size_t i : left_) {
      if (i != result_.winner) leave(i, Standing::tied);
    }
    leave(result_.winner, Standing::won);
  }

  const std::vector<Candidate>& candidates_;
  const Runner& runner_;
  const RaceOptions& options_;
  std::mt19937_64 random_;
  double end_ = 0;
  std::vector<std::vector<double>> times_;  // [candidate][round], NaN where it was out
  std::vector<int> repeats_;
  std::vector<std::size_t> left_;
  double move_seconds_ = 0;  // of the last one
  bool lost_core_ = false;   // in some timing of this round
  int disturbed_rounds_ = 0, places_ = 1;
  RaceResult result_;
};

}  // namespace

const char* name(Standing::Fate fate) {
  static const char* const names[] = {"untried", "wrong", "unqualified", "slower", "tied", "won"};
  return names[fate];
}

RaceResult race(const std::vector<Candidate>& candidates, const Runner& runner, const RaceOptions& options) {
  return Race(candidates, runner, options).go();
}

}  // namespace replk::tuner
