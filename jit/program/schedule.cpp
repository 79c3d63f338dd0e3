#include "jit/program/schedule.hpp"

#include <algorithm>
#include <utility>

namespace replk::jit {
namespace {

using Ids = std::vector<int>;

/// The steps that compute (all but stores) as a graph: step i uses the results of before[i], feeds after[i].
class Graph {
 public:
  explicit Graph(const Listing& list) {
    std::vector<int> maker(list.sources.size(), -1);
    for (const Step& s : list.steps) {
      if (s.op == Op::store) continue;
      maker[s.result] = static_cast<int>(compute.size());
      compute.push_back(s);
    }
    before.resize(compute.size());
    after.resize(compute.size());
    for (std::size_t i = 0; i < compute.size(); i++)
      for (int operand : compute[i].in)
        if (operand >= 0 && maker[operand] >= 0) {
          before[i].push_back(maker[operand]);
          after[maker[operand]].push_back(static_cast<int>(i));
        }
  }
  std::vector<Step> compute;
  std::vector<Ids> before, after;
};

/// Recursive bisection. The steps of a part are taken alternately from its inputs downwards (early) and from
/// its outputs upwards (late) until none is left; then early goes first, and both are bisected again,
/// connected piece by piece.
class Bisection {
 public:
  explicit Bisection(const Graph& graph)
      : graph_(graph), part_(graph.compute.size(), 0), mark_(part_.size(), 0) {}

  Ids run() {
    Ids all(graph_.compute.size());
    for (std::size_t i = 0; i < all.size(); i++) all[i] = static_cast<int>(i);
    pieces(all);
    return std::move(order_);
  }

 private:
  void pieces(const Ids& part) {
    const int here = ++parts_;
    for (int i : part) part_[i] = here;
    // Connected pieces, each in the given (topological) order; the order of the pieces is that of their first
    // steps.
    std::vector<Ids> found;
    for (int start : part) {
      if (part_[start] != here) continue;
      const int piece = ++parts_;
      Ids stack{start}, members;
      part_[start] = piece;
      while (!stack.empty()) {
        const int i = stack.back();
        stack.pop_back();
        members.push_back(i);
        for (const auto* neighbours : {&graph_.before[i], &graph_.after[i]})
          for (int n : *neighbours)
            if (part_[n] == here) {
              part_[n] = piece;
              stack.push_back(n);
            }
      }
      std::sort(members.begin(), members.end());
      found.push_back(std::move(members));
    }
    for (const Ids& piece : found) bisect(piece);
  }

  void bisect(const Ids& piece) {
    if (piece.size() == 1) {
      order_.push_back(piece[0]);
      return;
    }
    const int here = ++parts_;
    enum { open, early, late };
    for (int i : piece) {
      part_[i] = here;
      mark_[i] = open;
    }
    Ids rest = piece;
    for (bool downwards = true; !rest.empty(); downwards = !downwards) {
      const auto& neighbours = downwards ? graph_.before : graph_.after;
      const int colour = downwards ? early : late;
      Ids taken;
      for (int i : rest)
        if (std::all_of(neighbours[i].begin(), neighbours[i].end(),
                        [&](int n) { return part_[n] != here || mark_[n] == colour; }))
          taken.push_back(i);
      for (int i : taken) mark_[i] = colour;
      std::erase_if(rest, [&](int i) { return mark_[i] != open; });
    }
    Ids first, second;
    for (int i : piece) (mark_[i] == early ? first : second).push_back(i);
    if (first.empty() || second.empty()) {
      for (int i : piece) order_.push_back(i);
      return;
    }
    pieces(first);
    pieces(second);
  }

  const Graph& graph_;
  std::vector<int> part_, mark_;
  int parts_ = 0;
  Ids order_;
};

/// Each step without users in turn, after all it needs.
Ids deepest_first(const Graph& graph) {
  Ids order;
  std::vector<std::uint8_t> done(graph.compute.size(), 0);
  for (std::size_t root = 0; root < graph.compute.size(); root++) {
    if (!graph.after[root].empty()) continue;
    std::vector<std::pair<int, std::size_t>> stack{{static_cast<int>(root), 0}};
    while (!stack.empty()) {
      auto& [i, next] = stack.back();
      if (done[i] || next == graph.before[i].size()) {
        if (!done[i]) order.push_back(i);
        done[i] = 1;
        stack.pop_back();
      } else {
        stack.emplace_back(graph.before[i][next++], 0);
      }
    }
  }
  return order;
}

}  // namespace

std::vector<Step> schedule(const Listing& list, Order order) {
  const Graph graph(list);
  Ids ids(graph.compute.size());
  for (std::size_t i = 0; i < ids.size(); i++) ids[i] = static_cast<int>(i);
  if (order == Order::bisected) ids = Bisection(graph).run();
  if (order == Order::deepest) ids = deepest_first(graph);

  std::vector<std::vector<Step>> stores(list.sources.size());
  std::vector<Step> steps;
  for (const Step& s : list.steps)
    if (s.op == Op::store) stores[s.in[0]].push_back(s);
  for (std::size_t i = 0; i < list.sources.size(); i++)  // inputs passed through
    if (list.sources[i].kind != Source::Kind::temporary)
      steps.insert(steps.end(), stores[i].begin(), stores[i].end());
  for (int i : ids) {
    steps.push_back(graph.compute[i]);
    const auto& follow = stores[graph.compute[i].result];
    steps.insert(steps.end(), follow.begin(), follow.end());
  }
  return steps;
}

}  // namespace replk::jit
