#include "jit/program/lower.hpp"

#include <algorithm>
#include <bit>
#include <map>
#include <utility>

#include "jit/program/schedule.hpp"

namespace replk::jit {
namespace {

using Kind = Node::Kind;

bool multiplies(const Node& n) {
  return n.kind == Kind::scaled || n.kind == Kind::product;
}
bool adds(const Node& n) {
  return n.kind == Kind::sum || n.kind == Kind::difference;
}

class Lowering {
 public:
  Lowering(const Program& program, const LowerOptions& options)
      : nodes_(program.nodes()), outputs_(program.outputs()), options_(options) {}

  Listing run() {
    find_live();
    choose_fused();
    wish_signs();
    list_.signs.assign(outputs_.size(), 1);
    source_.assign(nodes_.size(), -1);
    flipped_.assign(nodes_.size(), false);
    for (std::size_t i = 0; i < nodes_.size(); i++)
      if (live_[i] && !multiplies(nodes_[i])) emit(static_cast<int>(i));
    for (std::size_t j = 0; j < outputs_.size(); j++) emit_store(j);
    list_.steps = schedule(list_, options_.order);
    return std::move(list_);
  }

 private:
  void find_live() {
    live_.assign(nodes_.size(), false);
    uses_.assign(nodes_.size(), 0);
    wanted_.assign(nodes_.size(), false);
    for (const Output& o : outputs_)
      if (o.node >= 0) {
        live_[o.node] = wanted_[o.node] = true;
        uses_[o.node]++;
      }
    for (int i = static_cast<int>(nodes_.size()) - 1; i >= 0; i--) {
      if (!live_[i] || nodes_[i].kind == Kind::input) continue;
      const auto use = [&](int operand) {
        live_[operand] = true;
        uses_[operand]++;
      };
      use(nodes_[i].a);
      if (nodes_[i].kind != Kind::scaled && nodes_[i].kind != Kind::relu) use(nodes_[i].b);
    }
  }

  /// A multiplication disappears into every sum that uses it. Where both operands of a sum are
  /// multiplications one must be computed by itself (`wanted`): the one that most other such sums share.
  void choose_fused() {
    std::vector<int> rivals(nodes_.size(), 0);
    const auto both = [&](int i) {
      return live_[i] && adds(nodes_[i]) && multiplies(nodes_[nodes_[i].a]) &&
             multiplies(nodes_[nodes_[i].b]);
    };
    for (std::size_t i = 0; i < nodes_.size(); i++) {
      if (!live_[i]) continue;
      const Node& n = nodes_[i];
      if (both(static_cast<int>(i))) rivals[n.a]++, rivals[n.b]++;
      if (multiplies(n) || n.kind == Kind::relu) {  // a multiplication with a user that cannot fuse it
        if (multiplies(nodes_[n.a])) wanted_[n.a] = true;
        if (n.kind == Kind::product && multiplies(nodes_[n.b])) wanted_[n.b] = true;
      }
    }
    for (std::size_t i = 0; i < nodes_.size(); i++) {
      if (!both(static_cast<int>(i))) continue;
      const Node& n = nodes_[i];
      if (!wanted_[n.a] && !wanted_[n.b]) wanted_[rivals[n.a] > rivals[n.b] ? n.a : n.b] = true;
    }
  }

  /// An output that is wanted negated asks its operands, where they have no other user, to come negated too.
  void wish_signs() {
    wish_.assign(nodes_.size(), false);
    for (const Output& o : outputs_)
      if (o.node >= 0 && !(options_.free_signs >> o.stream & 1)) wish_[o.node] = o.negative;
    for (int i = static_cast<int>(nodes_.size()) - 1; i >= 0; i--) {
      const Node& n = nodes_[i];
      if (!live_[i]) continue;
      if (n.kind == Kind::relu && uses_[n.a] == 1) wish_[n.a] = n.b;
      if (!wish_[i] || n.kind != Kind::sum) continue;
      for (int operand : {n.a, n.b})
        if (uses_[operand] == 1) wish_[operand] = true;
    }
  }

  int add_source(const Source& s) {
    list_.sources.push_back(s);
    return static_cast<int>(list_.sources.size()) - 1;
  }

  int constant(double value) {
    const float rounded = static_cast<float>(value);
    const auto [place, is_new] = constants_.try_emplace(std::bit_cast<std::uint32_t>(rounded), 0);
    if (is_new) place->second = add_source({Source::Kind::constant, 0, 0, rounded});
    return place->second;
  }

  /// The two factors of a multiplication and the sign of their product over the node's value.
  struct Factors {
    int a, b;
    bool negative;
  };
  Factors factors(int node) {
    const Node& n = nodes_[node];
    const int a = source(n.a);
    if (n.kind == Kind::scaled) return {a, constant(n.factor), flipped_[n.a]};
    const int b = source(n.b);
    return {a, b, flipped_[n.a] != flipped_[n.b]};
  }

  int source(int node) {
    if (source_[node] < 0) emit(node);
    return source_[node];
  }

  void emit(int node) {
    if (source_[node] >= 0) return;
    const Node& n = nodes_[node];
    switch (n.kind) {
      case Kind::input:
        source_[node] = add_source({Source::Kind::input, n.a, n.b, 0});
        break;
      case Kind::scaled: {
        const int a = source(n.a);
        flipped_[node] = wish_[node];
        push(node, Op::mul, a, constant(flipped_[n.a] != wish_[node] ? -n.factor : n.factor));
        break;
      }
      case Kind::product: {
        const Factors f = factors(node);
        flipped_[node] = f.negative;
        push(node, Op::mul, f.a, f.b);
        break;
      }
      case Kind::relu:
        push(node, Op::relu, signed_source(n.a, n.b));
        break;
      case Kind::sum:
      case Kind::difference:
        emit_sum(node);
        break;
    }
  }

  void emit_sum(int node) {
    const Node& n = nodes_[node];
    const bool minus = n.kind == Kind::difference;
    for (const bool second : {true, false}) {
      const int m = second ? n.b : n.a, other = second ? n.a : n.b;
      if (!multiplies(nodes_[m]) || wanted_[m]) continue;
      const int c = source(other);
      const Factors f = factors(m);
      // node = (second && minus ? -1 : 1) * product + (!second && minus ? -1 : 1) * other
      bool product_negative = f.negative != (second && minus);
      bool other_negative = flipped_[other] != (!second && minus);
      flipped_[node] = wish_[node];
      product_negative = product_negative != wish_[node];
      other_negative = other_negative != wish_[node];
      push(node,
           product_negative ? (other_negative ? Op::fnms : Op::fnma) : (other_negative ? Op::fms : Op::fma),
           f.a, f.b, c);
      return;
    }
    const int a = source(n.a), b = source(n.b);
    const bool a_negative = flipped_[n.a], b_negative = flipped_[n.b] != minus;
    if (a_negative == b_negative) {
      flipped_[node] = a_negative;
      push(node, Op::add, a, b);
    } else {
      flipped_[node] = wish_[node];
      const bool swap = a_negative != wish_[node];
      push(node, Op::sub, swap ? b : a, swap ? a : b);
    }
  }

  /// The value of a node, or its negative, exactly: with a negation where it is stored the other way round.
  int signed_source(int node, bool negative) {
    const int from = source(node);
    if (negative == flipped_[node]) return from;
    const int negated = add_source({});
    list_.steps.push_back({Op::negate, negated, {from, -1, -1}, 0, 0});
    return negated;
  }

  void push(int node, Op op, int a, int b = -1, int c = -1) {
    source_[node] = add_source({});
    list_.steps.push_back({op, source_[node], {a, b, c}, 0, 0});
  }

  void emit_store(std::size_t j) {
    const Output& o = outputs_[j];
    int from;
    if (o.node < 0) {
      from = add_source({});
      list_.steps.push_back({Op::zero, from, {-1, -1, -1}, 0, 0});
    } else if (options_.free_signs >> o.stream & 1) {
      from = source(o.node);
      if (o.negative != flipped_[o.node]) list_.signs[j] = -1;
    } else {
      from = signed_source(o.node, o.negative);
    }
    list_.steps.push_back({Op::store, -1, {from, -1, -1}, o.stream, o.index});
  }

  const std::vector<Node>& nodes_;
  const std::vector<Output>& outputs_;
  const LowerOptions options_;
  std::vector<bool> live_, wanted_, wish_, flipped_;
  std::vector<int> uses_, source_;
  std::map<std::uint32_t, int> constants_;
  Listing list_;
};

}  // namespace

Listing lower(const Program& program, const LowerOptions& options) {
  return Lowering(program, options).run();
}

}  // namespace replk::jit
