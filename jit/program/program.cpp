#include "jit/program/program.hpp"

#include <cmath>
#include <functional>
#include <utility>

namespace replk::jit {
namespace {

// Constants that differ only by the rounding of their computation are one: multiples of 2^-46.
double canonical(double factor) {
  return std::round(factor * 0x1p46) * 0x1p-46;
}

}  // namespace

std::size_t Program::Hash::operator()(const Node& n) const {
  std::size_t h = static_cast<std::size_t>(n.kind);
  for (std::size_t part :
       {static_cast<std::size_t>(n.a), static_cast<std::size_t>(n.b), std::hash<double>{}(n.factor)})
    h = (h ^ part) * 0x9e3779b97f4a7c15u + (h >> 29);
  return h;
}

Real Program::record(const Node& node, bool negative) {
  const auto [place, is_new] = known_.try_emplace(node, static_cast<int>(nodes_.size()));
  if (is_new) nodes_.push_back(node);
  return {this, place->second, negative};
}

Real Program::input(int stream, int index) {
  return record({Node::Kind::input, stream, index, 0}, false);
}

void Program::output(int stream, int index, Real value) {
  outputs_.push_back({stream, index, value.node_, value.negative_});
}

Real Real::operator-() const {
  return zero() ? *this : Real(program_, node_, !negative_);
}

Real operator+(Real a, Real b) {
  if (a.zero()) return b;
  if (b.zero()) return a;
  if (a.node_ == b.node_) return a.negative_ == b.negative_ ? 2.0 * a : Real();
  if (a.node_ > b.node_) std::swap(a, b);
  const auto kind = a.negative_ == b.negative_ ? Node::Kind::sum : Node::Kind::difference;
  return a.program_->record({kind, a.node_, b.node_, 0}, a.negative_);
}

Real operator-(Real a, Real b) {
  return a + -b;
}

Real operator*(double factor, Real a) {
  const double size = canonical(std::abs(factor));
  if (a.zero() || size == 0) return {};
  const bool negative = a.negative_ != (factor < 0);
  const Node& n = a.program_->nodes_[a.node_];
  if (n.kind == Node::Kind::scaled)
    return (negative ? -1 : 1) * n.factor * size * Real(a.program_, n.a, false);
  if (size == 1) return {a.program_, a.node_, negative};
  return a.program_->record({Node::Kind::scaled, a.node_, 0, size}, negative);
}

Real operator*(Real a, Real b) {
  if (a.zero() || b.zero()) return {};
  if (a.node_ > b.node_) std::swap(a, b);
  return a.program_->record({Node::Kind::product, a.node_, b.node_, 0}, a.negative_ != b.negative_);
}

Real relu(Real a) {
  if (a.zero()) return a;
  return a.program_->record({Node::Kind::relu, a.node_, a.negative_, 0}, false);
}

std::vector<Outflow> transpose(const Program& program, const std::vector<Real>& inflow) {
  const auto& nodes = program.nodes();
  std::vector<Real> flow(nodes.size());  // what reaches a node from the far side
  for (std::size_t j = 0; j < inflow.size(); j++) {
    const Output& o = program.outputs()[j];
    if (o.node >= 0) flow[o.node] = flow[o.node] + (o.negative ? -inflow[j] : inflow[j]);
  }
  for (int i = static_cast<int>(nodes.size()) - 1; i >= 0; i--) {
    const Node& n = nodes[i];
    const Real v = flow[i];
    if (v.zero() || n.kind == Node::Kind::input) continue;
    if (n.kind == Node::Kind::scaled) {
      flow[n.a] = flow[n.a] + n.factor * v;
      continue;
    }
    flow[n.a] = flow[n.a] + v;
    flow[n.b] = flow[n.b] + (n.kind == Node::Kind::sum ? v : -v);
  }
  std::vector<Outflow> result;
  for (std::size_t i = 0; i < nodes.size(); i++)
    if (nodes[i].kind == Node::Kind::input) result.push_back({nodes[i].a, nodes[i].b, flow[i]});
  return result;
}

}  // namespace replk::jit
