// A straight-line numeric program, recorded by running ordinary C++ over values of type Real. Recording
// simplifies: equal expressions are shared, zeros and ones vanish, signs move out of the nodes, constants
// multiply together. What no output needs is never lowered (lower.hpp). The idea is FFTW's genfft (Frigo,
// PLDI 1999), done at run time.
#pragma once
#include <algorithm>
#include <cstdint>
#include <unordered_map>
#include <vector>

namespace replk::jit {

class Program;

/// A value of a Program: a node and a sign. A default Real is the exact zero, which costs nothing anywhere.
class Real {
 public:
  Real() = default;
  bool zero() const { return program_ == nullptr; }
  Real operator-() const;

 private:
  friend class Program;
  Real(Program* program, int node, bool negative) : program_(program), node_(node), negative_(negative) {}
  Program* program_ = nullptr;
  int node_ = -1;
  bool negative_ = false;

  friend Real operator+(Real a, Real b);
  friend Real operator*(double factor, Real a);
  friend Real operator*(Real a, Real b);
  friend Real relu(Real a);
};

Real operator+(Real a, Real b);
Real operator-(Real a, Real b);
Real operator*(double factor, Real a);
Real operator*(Real a, Real b);
Real relu(Real a);  // max(a, 0)

struct Node {
  enum class Kind : std::uint8_t { input, scaled, product, sum, difference, relu };
  Kind kind = Kind::input;
  int a = 0, b = 0;   // operands; for an input its stream and its index within that; for relu, b is 1 to
                      // negate a first
  double factor = 0;  // of `scaled`: factor * a, positive and not 1
  bool operator==(const Node&) const = default;
};

/// Where a result goes. An index is in the unit of its stream, which only the emitter knows.
struct Output {
  int stream = 0, index = 0;
  int node = -1;  // -1: zero
  bool negative = false;
};

class Program {
 public:
  Program() = default;
  Program(const Program&) = delete;  // Reals point to their program
  Program& operator=(const Program&) = delete;

  Real input(int stream, int index);
  void output(int stream, int index, Real value);

  const std::vector<Node>& nodes() const { return nodes_; }  // operands before their users
  const std::vector<Output>& outputs() const { return outputs_; }

  /// The values of the outputs, in their order, in double: for tests and for computing small transforms
  /// without code.
  template <class Input>  // double(int stream, int index)
  std::vector<double> evaluate(const Input& value_of) const;

 private:
  friend Real operator+(Real a, Real b);
  friend Real operator*(double factor, Real a);
  friend Real operator*(Real a, Real b);
  friend Real relu(Real a);
  Real record(const Node& node, bool negative);

  struct Hash {
    std::size_t operator()(const Node& node) const;
  };
  std::vector<Node> nodes_;
  std::vector<Output> outputs_;
  std::unordered_map<Node, int, Hash> known_;
};

/// The transposed network of a linear program (Crochiere and Oppenheim 1975), recorded into whatever program
/// the Reals of `inflow` (one an output of `program`) belong to. Returns what flows out at each input of
/// `program`, with its stream and index. Precondition: nothing but inputs, sums, differences and constant
/// multiples.
struct Outflow {
  int stream = 0, index = 0;
  Real value;
};
std::vector<Outflow> transpose(const Program& program, const std::vector<Real>& inflow);

template <class Input>
std::vector<double> Program::evaluate(const Input& value_of) const {
  std::vector<double> value(nodes_.size());
  for (std::size_t i = 0; i < nodes_.size(); i++) {
    const Node& n = nodes_[i];
    switch (n.kind) {
      case Node::Kind::input:
        value[i] = value_of(n.a, n.b);
        break;
      case Node::Kind::scaled:
        value[i] = n.factor * value[n.a];
        break;
      case Node::Kind::product:
        value[i] = value[n.a] * value[n.b];
        break;
      case Node::Kind::sum:
        value[i] = value[n.a] + value[n.b];
        break;
      case Node::Kind::difference:
        value[i] = value[n.a] - value[n.b];
        break;
      case Node::Kind::relu:
        value[i] = std::max(n.b ? -value[n.a] : value[n.a], 0.0);
        break;
    }
  }
  std::vector<double> result;
  for (const Output& o : outputs_)
    result.push_back(o.node < 0 ? 0 : o.negative ? -value[o.node] : value[o.node]);
  return result;
}

}  // namespace replk::jit
