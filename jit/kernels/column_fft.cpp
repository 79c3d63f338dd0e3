#include "jit/kernels/column_fft.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <numbers>
#include <numeric>

#include "core/error.hpp"
#include "jit/x64/codelet.hpp"

namespace replk::jit {
namespace {

enum Stream { real_plane, imaginary_plane, weights, between };

using Signal = std::vector<Complex>;

/// n = r * m, split like dft(): r transforms of length m over the inputs, then m of length r, which meet the
/// product and their own inverse while the values are at hand, then the inverse of the first stage. Inverses
/// are transposes: a Fourier matrix as a real one, transposed, is its conjugate.
class ConvolutionPrograms {
 public:
  explicit ConvolutionPrograms(const ColumnFftSpec& spec)
      : spec_(spec), n_(spec.n), r_(spec.factors[0]), m_(n_ / r_), coprime_(std::gcd(r_, m_) == 1) {}

  Listing forward() const {
    Program program;
    Signal x(n_);
    for (int i = 0; i < spec_.inputs; i++)
      x[spec_.first + i] = {program.input(real_plane, i), program.input(imaginary_plane, i)};
    first_stage(program, x);
    return lower(program);
  }

  std::vector<int> order() const {
    std::vector<int> met;
    for (int k2 = 0; k2 < m_; k2++)
      for (int k1 = 0; k1 < r_; k1++) met.push_back(frequency(k2, k1));
    return met;
  }

  Listing product() const {
    Program program;
    int met = 0;
    for (int k2 = 0; k2 < m_; k2++) {
      Signal column;
      for (int i = 0; i < r_; i++) column.push_back(between_input(program, i, k2));
      const Signal z = second_stage(k2, column);
      std::vector<Real> inflow;
      for (int k1 = 0; k1 < r_; k1++, met++) {
        const Real wr = program.input(weights, 2 * met), wi = program.input(weights, 2 * met + 1);
        inflow.push_back(wr * z[k1].re - wi * z[k1].im);
        inflow.push_back(wr * z[k1].im + wi * z[k1].re);
      }
      Program network;
      Signal inputs;
      for (int i = 0; i < r_; i++) inputs.push_back(between_input(network, i, k2));
      for (const Complex& value : second_stage(k2, inputs)) {
        network.output(between, 0, value.re);
        network.output(between, 0, value.im);
      }
      for (const Outflow& out : transpose(network, inflow)) program.output(out.stream, out.index, out.value);
    }
    return lower(program);
  }

  Listing inverse() const {
    Program network;
    Signal x(n_);
    for (int o = 0; o < spec_.outputs; o++)
      x[o * spec_.step] = {network.input(real_plane, o), network.input(imaginary_plane, o)};
    first_stage(network, x);
    Program program;
    std::vector<Real> inflow;
    for (const Output& o : network.outputs()) inflow.push_back(program.input(between, o.index));
    for (const Outflow& out : transpose(network, inflow)) program.output(out.stream, out.index, out.value);
    return lower(program);
  }

 private:
  int position(int i, int j) const { return coprime_ ? (m_ * i + r_ * j) % n_ : i + r_ * j; }
  /// Between the stages values lie column by column.
  int place(int i, int k2) const { return 2 * (k2 * r_ + i); }
  Complex between_input(Program& program, int i, int k2) const {
    return {program.input(between, place(i, k2)), program.input(between, place(i, k2) + 1)};
  }

  void first_stage(Program& program, const Signal& x) const {
    for (int i = 0; i < r_; i++) {
      Signal row;
      for (int j = 0; j < m_; j++) row.push_back(x[position(i, j)]);
      const Signal y = dft(row, std::span(spec_.factors).subspan(1));
      for (int k2 = 0; k2 < m_; k2++) {
        program.output(between, place(i, k2), y[k2].re);
        program.output(between, place(i, k2) + 1, y[k2].im);
      }
    }
  }

  /// The transform across the rows at k2; twiddles where the factors share a divisor.
  Signal second_stage(int k2, Signal column) const {
    if (!coprime_)
      for (int i = 0; i < r_; i++) {
        const double angle = 2 * std::numbers::pi * i * k2 / n_, c = std::cos(angle), s = std::sin(angle);
        column[i] = {c * column[i].re + s * column[i].im, c * column[i].im - s * column[i].re};
      }
    const int outer[] = {r_};
    return dft(column, outer);
  }
  int frequency(int k2, int k1) const {
    if (!coprime_) return k2 + m_ * k1;
    int k = k2;
    while (k % r_ != k1) k += m_;
    return k;
  }

  const ColumnFftSpec& spec_;
  const int n_, r_, m_;
  const bool coprime_;
};

RegisterOptions register_options(const ColumnFftSpec& spec) {
  RegisterOptions options;
  options.registers = vector_registers(spec.isa);
  options.readable_outputs = 1u << between;
  if (spec.half_weights) options.converted_inputs = 1u << weights;
  return options;
}

struct Stages {
  Allocation forward, product, inverse;
};
Stages stages(const ColumnFftSpec& spec) {
  const ConvolutionPrograms programs(spec);
  const RegisterOptions options = register_options(spec);
  return {assign_registers(programs.forward(), options), assign_registers(programs.product(), options),
          assign_registers(programs.inverse(), options)};
}

/// for each chunk of pairs: for each stage: for each pair. All stages at once would overflow the
/// micro-operation cache (on Zen 3 from lengths of 64 on), so a few pairs take each stage together, while
/// their values stay in the L1.
class ColumnFftKernel : public CodeletKernel {
 public:
  explicit ColumnFftKernel(const ColumnFftSpec& spec)
      : CodeletKernel(spec.isa), spec_(spec), stages_(stages(spec)) {
    slots_ = std::max({stages_.forward.slots, stages_.product.slots, stages_.inverse.slots});
  }

 private:
  DataType type(int stream) const override {
    return spec_.half_weights && stream == weights ? DataType::f16 : DataType::f32;
  }
  int weight_bytes() const { return spec_.half_weights ? vector_bytes() / 2 : vector_bytes(); }

  void generate() override {
    with_frame(slots_, [&] { loop(pairs_, now_, [&] { chunk(); }); });
  }

  void chunk() {
    mov(now_, spec_.chunk);
    cmp(pairs_, now_);
    cmovl(now_, pairs_);
    stage(stages_.forward, [this] { add(in_, 2 * spec_.plane_stride); });
    stage(stages_.product, [this] { add(weights_, 2 * spec_.n * weight_bytes()); });
    stage(stages_.inverse, [this] { add(out_, 2 * spec_.plane_stride); });
  }

  template <class Advance>
  void stage(const Allocation& code, Advance advance) {
    const Xbyak::Reg64 planes = &code == &stages_.forward ? in_ : out_;
    mov(between_, scratch_);
    mov(left_, now_);
    loop(left_, [&] {
      emit(code, [&](const Operand& o) { return address(o, planes); });
      add(between_, 2 * spec_.n * vector_bytes());
      advance();
    });
  }

  Xbyak::Address address(const Operand& o, const Xbyak::Reg64& planes) const {
    const int row = o.index * vector_bytes();
    if (o.kind == Operand::Kind::slot) return ptr[rsp + row];
    switch (o.stream) {
      case real_plane:
        return ptr[planes + row];
      case imaginary_plane:
        return ptr[planes + spec_.plane_stride + row];
      case weights:
        return ptr[weights_ + o.index * weight_bytes()];
      default:
        return ptr[between_ + row];
    }
  }

  const ColumnFftSpec spec_;
  const Stages stages_;
  int slots_ = 0;
  const Xbyak::Reg64 in_ = rdi, out_ = rsi, weights_ = rdx, pairs_ = rcx, scratch_ = r8, left_ = r9,
                     between_ = r10, now_ = r11;
};

}  // namespace

std::string ColumnFftSpec::text() const {
  return fmt::format("column-fft {} n={} factors={} inputs={}+{} outputs={}*{} chunk={} stride={}{}",
                     name(isa), n, to_string(factors), first, inputs, outputs, step, chunk, plane_stride,
                     half_weights ? " half" : "");
}

std::vector<ColumnFftSpec> ColumnFftSpec::samples(Features features) {
  ColumnFftSpec spec;
  spec.isa = isa_of(features);
  spec.inputs = spec.outputs = 7;
  spec.plane_stride = 1024;
  std::vector<ColumnFftSpec> all;
  for (const Factors& factors : {Factors{3, 7}, Factors{4, 2}}) {  // coprime, and with twiddles
    spec.n = factors[0] * factors[1];
    spec.factors = factors;
    all.push_back(spec);
  }
  spec.half_weights = true;
  all.push_back(spec);
  return all;
}

std::size_t scratch_bytes(const ColumnFftSpec& spec) {
  return static_cast<std::size_t>(spec.chunk) * 2 * spec.n * sizeof(float) * vector_floats(spec.isa);
}

std::vector<int> fft_weight_order(const ColumnFftSpec& spec) {
  return ConvolutionPrograms(spec).order();
}

std::vector<std::uint8_t> generate(const ColumnFftSpec& spec) {
  return ColumnFftKernel(spec).take();
}

Counts count_pair(const ColumnFftSpec& spec) {
  const Stages s = stages(spec);
  return s.forward.counts + s.product.counts + s.inverse.counts;
}

}  // namespace replk::jit
