#include "jit/kernels/toeplitz_programs.hpp"

namespace replk::jit {
namespace {

using Stream = ToeplitzPrograms::Stream;

/// Taps from the caller's weights: those of a real plane, and what the products of a pair need.
class PlaneTaps {
 public:
  PlaneTaps(Program& program, const ToeplitzSpec& spec) : program_(program), spec_(spec) {}

  Taps real() const {
    return taps([](const Weights& w, int t) { return w.at(t); });
  }
  Taps re() const {
    return taps([](const Weights& w, int t) { return w.re(t); });
  }
  Taps im() const {
    return taps([](const Weights& w, int t) { return w.im(t); });
  }
  Taps difference() const {
    return taps([](const Weights& w, int t) { return w.re(t) - w.im(t); });
  }
  Taps sum() const {
    return taps([](const Weights& w, int t) { return w.re(t) + w.im(t); });
  }

 private:
  struct Weights {
    Program& program;
    Real at(int i) const { return program.input(Stream::weights, i); }
    Real re(int t) const { return at(2 * t); }
    Real im(int t) const { return at(2 * t + 1); }
  };
  template <class Value>
  Taps taps(Value value) const {
    Taps all;
    for (std::size_t t = 0; t < spec_.taps.size(); t++)
      all[spec_.taps[t]] = std::make_shared<Weight>(
          [w = Weights{program_}, value, t] { return value(w, static_cast<int>(t)); });
    return all;
  }

  Program& program_;
  const ToeplitzSpec& spec_;
};

ValueAt at(const Values& values) {
  return [&values](int o) { return values[o]; };
}

bool exists(const ToeplitzSpec& spec, int i) {
  return i >= spec.first && i < spec.first + spec.inputs;
}

}  // namespace

/// Outputs `begin` and those behind it, added to what is there where the spec says so: at last, so that what
/// is there passes through one rounding.
void ToeplitzPrograms::store(Program& program, Stream stream, int begin, const Values& y) const {
  const bool add = spec_.accumulate && (stream == output_plane || stream == second_output);
  for (int o = 0; o < static_cast<int>(y.size()); o++)
    program.output(stream, begin + o, add ? y[o] + program.input(stream, begin + o) : y[o]);
}

/// Inputs of a plane as output `begin` and those behind it count them.
ValueAt ToeplitzPrograms::plane(Program& program, Stream stream, int begin) const {
  return [&program, &spec = spec_, stream, shift = begin * spec_.step](int i) {
    return exists(spec, i + shift) ? program.input(stream, i + shift - spec.first) : Real();
  };
}

Listing ToeplitzPrograms::real() const {
  Program program;
  ToeplitzProduct product(spec_);
  const Taps taps = PlaneTaps(program, spec_).real();
  store(program, output_plane, 0, product.record(spec_.outputs, taps, plane(program, input_plane), nothing));
  return lower(program, {});
}

/// Without Karatsuba tile by tile, so that what the products share stays in registers.
Listing ToeplitzPrograms::pair() const {
  Program program;
  const int tiles = spec_.karatsuba > 0 ? 1 : (spec_.outputs + spec_.tile - 1) / spec_.tile;
  for (int t = 0; t < tiles; t++) {
    const int begin = spec_.outputs * t / tiles, end = spec_.outputs * (t + 1) / tiles;
    if (spec_.gauss)
      record_by_three(program, begin, end);
    else
      record_by_four(program, begin, end);
  }
  return lower(program, {});
}

/// Outputs begin..end-1 by three real products: with P = im (x_re - x_im), the results are P + (re - im) x_re
/// and P + (re + im) x_im.
void ToeplitzPrograms::record_by_three(Program& program, int begin, int end) const {
  ToeplitzProduct product(spec_);
  const PlaneTaps taps(program, spec_);
  const ValueAt re = plane(program, input_plane, begin), im = plane(program, second_plane, begin);
  const ValueAt difference = [&](int i) { return re(i) - im(i); };
  const int outputs = end - begin;
  const Values shared = product.record(outputs, taps.im(), difference, nothing);
  store(program, output_plane, begin, product.record(outputs, taps.difference(), re, at(shared)));
  store(program, second_output, begin, product.record(outputs, taps.sum(), im, at(shared)));
}

/// The same by four.
void ToeplitzPrograms::record_by_four(Program& program, int begin, int end) const {
  ToeplitzProduct product(spec_);
  const PlaneTaps taps(program, spec_);
  const ValueAt re = plane(program, input_plane, begin), im = plane(program, second_plane, begin);
  const ValueAt minus_im = [&](int i) { return -im(i); };
  const int outputs = end - begin;
  const Values minus = product.record(outputs, taps.im(), minus_im, nothing);
  store(program, output_plane, begin, product.record(outputs, taps.re(), re, at(minus)));
  const Values cross = product.record(outputs, taps.re(), im, nothing);
  store(program, second_output, begin, product.record(outputs, taps.im(), re, at(cross)));
}

Listing ToeplitzPrograms::product() const {
  Program program;
  ToeplitzProduct product(spec_, [&](int number) { return program.input(derived, number); });
  const Taps taps = PlaneTaps(program, spec_).real();
  const ValueAt start = [&](int o) { return program.input(initial, o); };
  store(program, output_plane, 0, product.record(spec_.outputs, taps, plane(program, input_plane), start));
  return lower(program, {});
}

int ToeplitzPrograms::product_weights() const {
  Program program;
  const Taps taps = PlaneTaps(program, spec_).real();
  return static_cast<int>(ToeplitzProduct(spec_).leaf_weights(spec_.outputs, taps).size());
}

Listing ToeplitzPrograms::derive_real() const {
  Program program;
  return derive(program, {PlaneTaps(program, spec_).real()});
}

Listing ToeplitzPrograms::derive_pair() const {
  Program program;
  const PlaneTaps taps(program, spec_);
  return derive(program, {taps.im(), taps.difference(), taps.sum()});
}

Listing ToeplitzPrograms::derive(Program& program, const std::vector<Taps>& products) const {
  int number = 0;
  for (const Taps& taps : products) {
    const Values all = ToeplitzProduct(spec_).leaf_weights(spec_.outputs, taps);
    store(program, derived, number, all);
    number += static_cast<int>(all.size());
  }
  return lower(program, {});
}

Listing ToeplitzPrograms::difference() const {
  Program program;
  for (int i = 0; i < spec_.inputs; i++)
    program.output(output_plane, i, program.input(input_plane, i) - program.input(second_plane, i));
  return lower(program, {});
}

}  // namespace replk::jit
